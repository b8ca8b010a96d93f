"""`kernel`: compile a function that Python calls, and keep the result on disk.

Functions that only kernels call are plain `njit`: they are compiled into each kernel. numba's own cache checks
only the file of a kernel, and would continue to use code compiled from an inner function that has changed in another
file. Here the name of the cache folder depends on all sources of compiled code and the versions that compile them.
"""

import functools
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba import njit
from numba.core.caching import FunctionCache

import lattice_flows
from lattice_flows.kernels.cache_folder import CacheFolder, folder_name

PACKAGE = Path(lattice_flows.__file__).parent
VERSIONS = (sys.version, numba.__version__, llvmlite.__version__, np.__version__, lattice_flows.__version__)

_COMPILES = (b"import numba", b"from numba", b"from %b import" % __name__.encode())
_log = logging.getLogger(__name__)


def kernel(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """`njit` with these options, whose results are kept on disk: `@kernel` or `@kernel(parallel=True)`."""
    if function is None:
        return functools.partial(kernel, **options)
    compiled = njit(**options)(function)
    if compiled is not function:  # it is the function itself under NUMBA_DISABLE_JIT
        try:
            compiled._cache = KernelCache(function)  # as enable_caching of numba's Dispatcher does with its own
        except (OSError, RuntimeError) as error:  # numba finds no folder to write to
            _log.info("%s is not kept: %s", function.__qualname__, error)
    return compiled


class KernelCache(FunctionCache):
    """numba's cache of one function, at the location that numba chooses, but in a folder and in files of our own.

    Of numba's private names it uses `_impl` (location, the function's file name, the stamp of its source), sets
    `_cache_path` and `_cache_file` (which loads and saves), and replaces a dispatcher's `_cache`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        place = self._impl.locator
        folder = Path(place.get_cache_path()) / folder_name(digest(PACKAGE))
        stamp = place.get_source_stamp()  # of the function's own file, which need not be among the sources
        self._cache_path = str(folder)
        self._cache_file = CacheFolder(folder, self._impl.filename_base, stamp)

    def save_overload(self, signature: Any, result: Any) -> None:
        """Save the code compiled for a signature; if that fails, it is compiled again next time."""
        try:
            super().save_overload(signature, result)
        except OSError as error:
            _log.info("%s: not saved: %s", self._cache_path, error)


@functools.cache
def digest(*packages: Path) -> str:
    """The checksum of the sources of compiled code in these folders and of the versions."""
    contents = [(name, hashlib.sha256(text).hexdigest()) for package in packages for name, text in sources(package)]
    return hashlib.sha256(repr((VERSIONS, contents)).encode()).hexdigest()


def sources(package: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a package's files that may hold compiled code.

    These are all modules of folders named `kernels`, and the modules elsewhere that import numba or this module.
    """
    for folder, folders, names in os.walk(package):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        below = os.path.relpath(folder, package).split(os.sep)
        for name in sorted(names):
            if name.endswith(".py"):
                text = _read(os.path.join(folder, name))
                if "kernels" in below or any(words in text for words in _COMPILES):
                    yield "/".join([*below, name]), text


def _read(path: str) -> bytes:
    """The file's content; empty if it only looks like a module, such as an editor's lock."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
