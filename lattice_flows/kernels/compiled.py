"""`kernel`: compile a function that Python calls, and keep the result on disk.

Functions that only kernels call are plain `njit`: they are compiled into each kernel. numba's own cache checks
only the file of a kernel, and would continue to use code compiled from an inner function that has changed in another
file. Here the name of the cache folder depends on all sources of compiled code and the versions that compile them.
The folder is that of numba if it is private; else one in the user's cache folder, or of this machine.
"""

import functools
import hashlib
import logging
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NoReturn

import llvmlite
import numba
import numpy as np
from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, UserWideCacheLocator

import lattice_flows
from lattice_flows.kernels.cache_folder import CacheFolder, CacheFolders, folder_name
from lattice_flows.kernels.private_folders import own_folders
from lattice_flows.kernels.sources import Sources, module_of, sources_of
from lattice_flows.kernels.threads import start_threads

VERSIONS = (sys.version, numba.__version__, llvmlite.__version__, np.__version__, lattice_flows.__version__)
SETTINGS = ("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "DISABLE_INTEL_SVML", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE")
"""of numba.config, beside the processor: they change the code that is compiled"""

_log = logging.getLogger(__name__)


class NoCompilerError(RuntimeError):
    """A kernel was called where the compiler is turned off."""


def kernel(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """`njit` with these options, whose results are kept on disk: `@kernel` or `@kernel(parallel=True)`.

    What counts as the sources of a kernel, of this or of another package, is said at `sources.sources_of`; where they
    cannot be known, each process compiles. Constants that are compiled into it are to stand in the sources, and not to
    be read from elsewhere. Under NUMBA_DISABLE_JIT a call raises NoCompilerError.
    """
    if function is None:
        return functools.partial(kernel, **options)
    return kept(function, [module_of(function)], **options)


def kept(function: Callable[..., Any], modules: Collection[str], **options: Any) -> Any:
    """A kernel of this function that also depends on other modules than its own: all are given."""
    if numba.config.DISABLE_JIT:
        return _without_compiler(function)
    compiled = njit(**options)(function)
    try:
        # As enable_caching of numba's Dispatcher does.
        compiled._cache = KernelCache(function, frozenset(modules), bool(options.get("parallel")))
    except (OSError, RuntimeError) as error:  # of no file, or NUMBA_CACHE_LOCATOR_CLASSES leads nowhere
        _log.info("%s is not kept: %s", function.__qualname__, error)
    return compiled


def _without_compiler(function: Callable[..., Any]) -> Callable[..., NoReturn]:
    """A stand-in: what kernels call, and some of their arithmetic, exists only in compiled code."""

    @functools.wraps(function)
    def refuse(*_: Any, **__: Any) -> NoReturn:
        name = f"{function.__module__}.{function.__qualname__}"
        raise NoCompilerError(f"NUMBA_DISABLE_JIT is set, and {name} needs numba's compiler; unset it")

    return refuse


class _Anywhere(UserWideCacheLocator):
    """The location where numba can write to none."""

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "_Anywhere | None":
        return cls(py_func, py_file) if Path(py_file).exists() else None


class _Results(CompileResultCacheImpl):
    _locator_classes = [*CompileResultCacheImpl._locator_classes, _Anywhere]  # noqa: RUF012 - as numba has it


class KernelCache(FunctionCache):
    """numba's cache of one function, at the location that numba chooses, but in a folder and in files of our own.

    Of numba's private names it uses `_impl` (location, the function's file name, its results), `_index_key` and
    `_name`, sets `_cache_file` (which loads and saves), and replaces a dispatcher's `_cache`. The sources are read when
    they are first asked for: by then the function's module is complete.
    """

    _impl_class = _Results

    def __init__(self, function: Callable[..., Any], modules: frozenset[str], parallel: bool) -> None:
        super().__init__(function)
        self._modules, self._parallel = modules, parallel

    @functools.cached_property
    def _sources(self) -> Sources | None:
        sources = sources_of(self._modules)
        if sources is not None:
            stamp = digest(sources)
            places = [Path(self._impl.locator.get_cache_path()), *own_folders()]
            name = self._impl.filename_base
            self._cache_file = CacheFolders([CacheFolder(place / folder_name(stamp), name, stamp) for place in places])
        return sources

    @property
    def cache_path(self) -> str | None:
        """The folder that is tried first; None if nothing is kept."""
        return None if self._sources is None else str(self._cache_file.folders[0].folder)

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The code compiled for a signature, or None."""
        if self._parallel:  # before it is loaded or compiled: numba starts them in the midst of that
            start_threads()
        return super().load_overload(signature, target) if self._is_current() else None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Save the code compiled for a signature; if that fails, it is compiled again next time."""
        if not self._is_current() or not self._impl.check_cachable(result):
            return
        try:
            self._cache_file.save(self._index_key(signature, result.codegen), self._impl.reduce(result))
        except OSError as error:
            _log.info("%s: not saved: %s", self.cache_path, error)

    def _is_current(self) -> bool:
        """Whether the sources are known, and are what was imported."""
        if self._sources is not None and self._sources.are_as_imported():
            return True
        reason = "a source has changed since this process began" if self._sources else "no file is known to hold it"
        _log.info("%s is not kept: %s", self._name, reason)
        return False


def digest(sources: Sources) -> str:
    """The checksum of these sources and of what compiles them."""
    settings = [getattr(numba.config, name, None) for name in SETTINGS]
    return hashlib.sha256(repr((VERSIONS, settings, sources.digest)).encode()).hexdigest()
