"""Functions of compiled code with a body for each class of couplings: what functools.singledispatch is to Python.

The class of a NamedTuple is part of its numba type, so a body is chosen when its caller is compiled, and the choice
costs nothing when it runs.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator
from functools import cache, wraps
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, TypeVar

from numba import types
from numba.extending import overload

from lattice_flows.kernels.compiled import kept
from lattice_flows.kernels.sources import module_of

Body = TypeVar("Body", bound=Callable[..., Any])
FastMath = bool | set[str]


class _Registered(NamedTuple):
    """A body, and how it is compiled."""

    function: Callable[..., Any]
    fastmath: FastMath
    forceinline: bool

    def described(self) -> tuple[str, ...]:
        """The same in every process."""
        fastmath = sorted(self.fastmath) if isinstance(self.fastmath, set) else self.fastmath
        line = self.function.__code__.co_firstlineno
        return self.function.__module__, self.function.__qualname__, str(line), repr(fastmath), repr(self.forceinline)

    def __str__(self) -> str:
        code = self.function.__code__
        return f"{self.function.__qualname__} ({code.co_filename}, line {code.co_firstlineno})"


_BODIES: dict[Callable[..., Any], dict[type, _Registered]] = {}
"""function -> class of couplings -> body"""
_DEFAULTS: set[Callable[..., Any]] = set()
"""functions whose own body serves the classes that have none"""
_COMPILED: set[type] = set()
"""classes of couplings that kernels may have been compiled for"""


def required(function: Body) -> Body:
    """A function, first argument the couplings, of which every class of couplings needs its own body."""
    _BODIES[function] = {}
    return function


def with_default(fastmath: FastMath = False) -> Callable[[Body], Body]:
    """A function, first argument the couplings, whose body serves all classes of couplings that have none of their own.

    fastmath: as of numba.njit; that of the caller is never inherited.
    """

    def register(function: Body) -> Body:
        _BODIES[function] = {}
        _DEFAULTS.add(function)
        _offer(function, function, lambda couplings: couplings not in _BODIES[function], {"fastmath": fastmath})
        return function

    return register


def implements(
    function: Callable[..., Any], *couplings: type, fastmath: FastMath = False, forceinline: bool = False
) -> Callable[[Body], Body]:
    """The decorated function is the body of `function` for these classes of couplings, NamedTuples.

    Its arguments are those of `function`. fastmath, forceinline: as of numba.njit; the fastmath of the caller is never
    inherited, and a loop that calls the body for every number vectorises if the body is inlined.
    Raises ValueError if a class has a body already, or may have been compiled with the default.
    """

    def register(body: Body) -> Body:
        registered = _Registered(body, fastmath, forceinline)
        for one in couplings:
            _require_none(function, one, registered)
        _BODIES[function].update(dict.fromkeys(couplings, registered))
        _offer(function, body, lambda other: other in couplings, {"fastmath": fastmath, "forceinline": forceinline})
        return body

    return register


def _require_none(function: Callable[..., Any], couplings: type, body: _Registered) -> None:
    """Raise ValueError if compiled code would go on with another body than this."""
    what = f"{function.__qualname__} of {couplings.__qualname__}"
    if couplings in _BODIES[function]:
        raise ValueError(f"{what} is {_BODIES[function][couplings]}, and cannot also be {body}; make another class")
    if couplings in _COMPILED and function in _DEFAULTS:
        raise ValueError(f"{what} cannot become {body}: it was compiled with the default before; make another class")


def _offer(function: Body, body: Body, applies: Callable[[type], bool], options: dict[str, Any]) -> None:
    """Let numba take this body for `function` where `applies` says so of the class of couplings."""

    @overload(function, jit_options=options)
    @wraps(body)  # numba compares the names of the arguments
    def choose(couplings: types.Type, *_: types.Type) -> Body | None:
        fits = isinstance(couplings, types.BaseNamedTuple) and applies(couplings.instance_class)
        return body if fits else None


@cache
def compiled_for(function: FunctionType, *couplings: type) -> Callable[..., Any]:
    """The function as a kernel for couplings of this class, or of these classes together, parallel.

    What is kept on disk is named after the classes and their bodies, and lies under the digest of all their sources,
    which may be outside of this package. A class that is not found in its module by its name is compiled in each
    process, and so is one whose sources cannot be known (`sources.sources_of`), as in a script or a notebook.
    """
    copy = FunctionType(function.__code__, function.__globals__, function.__name__)
    used = _used_by(function, couplings)
    names = ".".join(f"{one.__qualname__}.{_digest(one, used)}" for one in couplings)
    copy.__qualname__ = f"{function.__name__}.{names}"
    _COMPILED.update(couplings)
    modules = {module for one in couplings for module in _modules(one, used)}
    return kept(copy, {module_of(function), *modules}, parallel=True)


def _used_by(kernel: FunctionType, couplings: tuple[type, ...]) -> list[Callable[..., Any]]:
    """The functions with bodies that a kernel may call: those known to its module, and to the modules of their bodies.

    What others have registered does not change its code.
    """
    used: dict[Callable[..., Any], None] = {}
    namespaces = [kernel.__globals__]
    while namespaces:
        for function in _known(namespaces.pop()):
            if function not in used:
                used[function] = None
                bodies = [_BODIES[function][one].function for one in couplings if one in _BODIES[function]]
                namespaces += [body.__globals__ for body in [function, *bodies]]
    return list(used)


def _known(namespace: dict[str, Any]) -> list[Callable[..., Any]]:
    """The functions with bodies that code with these globals can name, on its own or as a module's."""
    values = list(namespace.values())
    values += [value for module in values if isinstance(module, ModuleType) for value in vars(module).values()]
    there = {id(value) for value in values}
    return [function for function in _BODIES if id(function) in there]


def _modules(couplings: type, used: list[Callable[..., Any]]) -> Iterator[str]:
    """Those of the class and of its bodies; an empty name for one that has no file."""
    module = sys.modules.get(couplings.__module__)
    yield couplings.__module__ if getattr(module, couplings.__qualname__, None) is couplings else ""
    for own in (_BODIES[function] for function in used):
        if couplings in own:
            yield module_of(own[couplings].function)


def _digest(couplings: Any, used: list[Callable[..., Any]]) -> str:
    """Of the names of the class, its fields and its bodies."""
    bodies = [
        (function.__module__, function.__qualname__, *_BODIES[function][couplings].described())
        for function in used
        if couplings in _BODIES[function]
    ]
    names = couplings.__module__, couplings.__qualname__, couplings._fields, couplings.__annotations__, sorted(bodies)
    return hashlib.sha256(repr(names).encode()).hexdigest()[:16]
