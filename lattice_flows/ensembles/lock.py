"""One writer at a time: the lock file NAME.lock, which holds host and pid of the writer."""

import os
from pathlib import Path

from lattice_flows.ensembles.errors import EnsembleError, LockedError
from lattice_flows.lock_files import hold, holder_of, open_lock, sign


class WriterLock:
    """The lock of a writer, held from construction until `release`.

    Raises LockedError if another writer has it, EnsembleError if the file system cannot lock, or if the lock's name is
    that of a file which is no lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.with_suffix(".lock")
        self._descriptor: int | None = self._acquire(path)
        sign(self._descriptor)

    def _acquire(self, path: Path) -> int:
        while True:
            try:
                descriptor = open_lock(self.path)
            except FileExistsError as error:
                raise EnsembleError(f"{self.path}: {error.strerror}") from None
            except OSError as error:
                raise EnsembleError(
                    f"{path}: its lock {self.path.name} cannot be created ({error.strerror})"
                ) from error
            try:
                hold(descriptor, self.path)
            except BlockingIOError:
                holder = holder_of(descriptor)
                os.close(descriptor)
                raise LockedError(path, *holder) from None
            except OSError as error:
                os.close(descriptor)
                raise EnsembleError(f"{self.path}: {error.strerror}") from error
            if self._is_current(descriptor):
                return descriptor
            os.close(
                descriptor
            )  # the holder before us removed the file between our open and our flock: try the new one

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove the file, then let go of it (in this order: nobody can lock a name that is about to vanish)."""
        if self._descriptor is None:
            return
        try:
            if self._is_current(self._descriptor):
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)
            self._descriptor = None
