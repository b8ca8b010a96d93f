"""`kernel`: compile a function that Python calls, and keep the result on disk.

Functions that only kernels call are plain `njit`: they are compiled into each kernel. numba's own cache checks
only the file of a kernel, and would continue to use code compiled from an inner function that has changed in another
file. Here the name of the cache folder depends on all sources of compiled code and the versions that compile them.
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
from numba.core.caching import FunctionCache

import lattice_flows
from lattice_flows.kernels.cache_folder import CacheFolder, folder_name
from lattice_flows.kernels.sources import Sources, module_of, sources_of

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
        compiled._cache = KernelCache(function, frozenset(modules))  # as enable_caching of numba's Dispatcher does
    except (OSError, RuntimeError) as error:  # numba finds no folder to write to
        _log.info("%s is not kept: %s", function.__qualname__, error)
    return compiled


def _without_compiler(function: Callable[..., Any]) -> Callable[..., NoReturn]:
    """A stand-in: what kernels call, and some of their arithmetic, exists only in compiled code."""

    @functools.wraps(function)
    def refuse(*_: Any, **__: Any) -> NoReturn:
        name = f"{function.__module__}.{function.__qualname__}"
        raise NoCompilerError(f"NUMBA_DISABLE_JIT is set, and {name} needs numba's compiler; unset it")

    return refuse


class KernelCache(FunctionCache):
    """numba's cache of one function, at the location that numba chooses, but in a folder and in files of our own.

    Of numba's private names it uses `_impl` (location, the function's file name) and `_name`, sets `_cache_file` (which
    loads and saves), and replaces a dispatcher's `_cache`. The sources are read when they are first asked for: by then
    the function's module is complete.
    """

    def __init__(self, function: Callable[..., Any], modules: frozenset[str]) -> None:
        super().__init__(function)
        self._modules = modules

    @functools.cached_property
    def _sources(self) -> Sources | None:
        sources = sources_of(self._modules)
        if sources is not None:
            stamp = digest(sources)
            folder = Path(self._impl.locator.get_cache_path()) / folder_name(stamp)
            self._cache_file = CacheFolder(folder, self._impl.filename_base, stamp)
        return sources

    @property
    def cache_path(self) -> str | None:
        """The folder; None if nothing is kept."""
        return None if self._sources is None else str(self._cache_file.folder)

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The code compiled for a signature, or None."""
        return super().load_overload(signature, target) if self._is_current() else None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Save the code compiled for a signature; if that fails, it is compiled again next time."""
        if not self._is_current():
            return
        try:
            super().save_overload(signature, result)
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
