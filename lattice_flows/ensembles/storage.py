"""HDF5 files, read and written.

HDF5 itself never writes to a disk here: it crashes the process when a disk is full, and a file that it extends in place
is lost if the process is killed.
"""

import functools
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import h5py

from lattice_flows.atomic_files import write_at, write_atomically
from lattice_flows.ensembles.errors import writing
from lattice_flows.regular_files import require_regular

# Superblock 3 and version 2 headers carry checksums, so that flipped metadata are noticed. HDF5 1.10 and younger read
# them.
LIBVER = ("v110", "v110")
CHUNK_CACHE = 8 << 20  # bytes; chunks are checked as a whole, so those in reach of the next read are kept

Build = Callable[[h5py.File], Iterator[None]]  # fills the file, and yields now and then


def open_file(path: Path) -> h5py.File:
    """The HDF5 file `path`, opened for reading. Raises OSError at once for what is no regular file."""
    require_regular(path)
    return h5py.File(h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDONLY, fapl=_reading()))


@functools.cache
def _reading() -> h5py.h5p.PropFAID:
    """The access properties of h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE), which rebuilds them for each file."""
    properties = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    metadata, slots, _, preemption = properties.get_cache()
    properties.set_cache(metadata, slots, CHUNK_CACHE, preemption)
    return properties


def commit_streaming(path: Path, build: Build) -> None:
    """Build the file under a temporary name, through a stream that HDF5 takes for its disk; then let it appear.

    Raises EnsembleError if the file cannot be written; then, and on KeyboardInterrupt, the temporary file is removed.
    """
    with _interrupts_wait() as let_through:

        def write(descriptor: int) -> None:
            stream = _Stream(descriptor)
            try:
                with h5py.File(stream, "w", libver=LIBVER, rdcc_nbytes=CHUNK_CACHE) as file:
                    for _ in build(file):
                        stream.check()
                        let_through()
            finally:
                stream.check()

        with writing(path):
            write_atomically(path, write)


@contextmanager
def _interrupts_wait() -> Iterator[Callable[[], None]]:
    """Delay SIGINT. Yields a function that delivers one that came in the meantime, as the end of the block does too.

    Its handler may raise, and HDF5 does not survive an exception while it calls our stream.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    waiting: list[tuple[int, FrameType | None]] = []

    def let_through() -> None:
        while waiting:
            handler(*waiting.pop(0))

    signal.signal(signal.SIGINT, lambda number, frame: waiting.append((number, frame)))
    try:
        yield let_through
    finally:
        signal.signal(signal.SIGINT, handler)
    let_through()


class _Stream(io.RawIOBase):
    """A stream that HDF5 takes for a disk that never fails: the first error is kept for `check`, and nothing is written
    after it.

    HDF5 does not survive an error while it closes a file; so it is not told.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._position = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the OSError that writing met, if any."""
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: os.fstat(self._descriptor).st_size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        total = len(view)
        while view:
            data = os.pread(self._descriptor, len(view), self._position)
            if not data:  # beyond the end of the file: HDF5 has made room there and not written yet
                data = bytes(len(view))
            view[: len(data)] = data
            view = view[len(data) :]
            self._position += len(data)
        return total

    def write(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        self._attempt(lambda: write_at(self._descriptor, view, self._position))
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        length = self._position if size is None else size
        self._attempt(lambda: os.ftruncate(self._descriptor, length))
        return length

    def _attempt(self, write: Callable[[], None]) -> None:
        if self._error is None:
            try:
                write()
            except OSError as error:
                self._error = error
