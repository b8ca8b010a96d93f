"""Functions of compiled code with a body for each class of couplings: what functools.singledispatch is to Python.

The class of a NamedTuple is part of its numba type, so a body is chosen when its caller is compiled, and the choice
costs nothing when it runs.
"""

import hashlib
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

from numba import types
from numba.extending import overload

from lattice_flows.kernels.compiled import kernel

Body = TypeVar("Body", bound=Callable[..., Any])
FastMath = bool | set[str]

_BODIES: dict[Callable[..., Any], dict[type, Callable[..., Any]]] = {}
"""function -> class of couplings -> body"""


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
        _offer(function, function, lambda couplings: couplings not in _BODIES[function], fastmath)
        return function

    return register


def implements(function: Callable[..., Any], *couplings: type, fastmath: FastMath = False) -> Callable[[Body], Body]:
    """The decorated function is the body of `function` for these classes of couplings, NamedTuples.

    Its arguments are those of `function`. fastmath: as of numba.njit; that of the caller is never inherited.
    """

    def register(body: Body) -> Body:
        _BODIES[function].update(dict.fromkeys(couplings, body))
        _offer(function, body, lambda other: other in couplings, fastmath)
        return body

    return register


def _offer(function: Body, body: Body, applies: Callable[[type], bool], fastmath: FastMath) -> None:
    """Let numba take this body for `function` where `applies` says so of the class of couplings."""

    @overload(function, jit_options={"fastmath": fastmath})
    @wraps(body)  # numba compares the names of the arguments
    def choose(couplings: types.Type, *_: types.Type) -> Body | None:
        fits = isinstance(couplings, types.BaseNamedTuple) and applies(couplings.instance_class)
        return body if fits else None


@cache
def compiled_for(function: FunctionType, couplings: type) -> Callable[..., Any]:
    """The function as a kernel for this class of couplings, parallel.

    What is kept on disk is named after the class and the files of its bodies, which may be outside of this package: a
    body that is edited is compiled anew, and classes of one name do not meet.
    """
    copy = FunctionType(function.__code__, function.__globals__, function.__name__)
    copy.__qualname__ = f"{function.__name__}.{couplings.__qualname__}.{_digest(couplings)}"
    return kernel(parallel=True)(copy)


def _digest(couplings: type) -> str:
    """Of the module of the class and the files of its bodies; those of a notebook have none, and are never kept."""
    files = {Path(own[couplings].__code__.co_filename) for own in _BODIES.values() if couplings in own}
    contents = [file.read_bytes() for file in sorted(files) if file.is_file()]
    return hashlib.sha256(b"".join([couplings.__module__.encode(), *contents])).hexdigest()[:16]
