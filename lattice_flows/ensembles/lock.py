"""One writer at a time: flock on NAME.lock, which holds host and pid of the writer.

The kernel drops the lock with the process, however it ends, so a lock file left behind by a kill blocks nobody.
"""

import contextlib
import fcntl
import json
import os
import socket
from pathlib import Path

from lattice_flows.ensembles.errors import EnsembleError, LockedError


class WriterLock:
    """The lock of a writer, held from construction until `release`.

    Raises LockedError if another writer has it, EnsembleError if the file system cannot lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.with_suffix(".lock")
        self._descriptor: int | None = self._acquire(path)
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same, only nameless
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0)

    def _acquire(self, path: Path) -> int:
        while True:
            descriptor = self._open(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise LockedError(path, *holder) from None
            except OSError as error:
                os.close(descriptor)
                raise EnsembleError(
                    f"{self.path}: cannot be locked ({error.strerror}); use a file system that supports flock"
                ) from error
            if self._is_current(descriptor):
                return descriptor
            os.close(
                descriptor
            )  # the holder before us removed the file between our open and our flock: try the new one

    def _open(self, path: Path) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise EnsembleError(f"{path}: its lock {self.path.name} cannot be created ({error.strerror})") from error

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove the file, then let go of it (in this order: nobody can lock a name that is about to vanish)."""
        if self._descriptor is None:
            return
        try:
            self.path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)
            self._descriptor = None


def _holder(descriptor: int) -> tuple[str | None, int | None]:
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
        return str(content["host"]), int(content["pid"])
    except (ValueError, KeyError, TypeError):
        return None, None
