"""Errors of ensembles. Each message is one line: what is wrong, where, and what would be right."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class EnsembleError(ValueError):
    """An ensemble is broken, foreign, misused or cannot be written. The message is one line."""


class StorageError(EnsembleError):
    """The disk is full, or fails, or files vanish from it: nothing that the caller gave is wrong."""


class MissingPartError(EnsembleError):
    """Files of an ensemble are missing; what is left of it can be read, see `Ensemble.open_remains`."""


DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE})
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


class LockedError(EnsembleError):
    """Another process writes this ensemble; `host` and `pid` say which (None if that is not yet known)."""

    def __init__(self, path: Path, host: str | None, pid: int | None) -> None:
        who = f"process {pid} on {host}" if host else "another process"
        super().__init__(f"{path}: {who} is writing this ensemble; wait until it has ended, or stop it")
        self.host = host
        self.pid = pid


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever HDF5 raises for a broken file into an EnsembleError that names the file.

    A missing file remains a FileNotFoundError: a writer may have joined it in the meantime.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    except EnsembleError as error:
        if str(path) in str(error):
            raise
        raise EnsembleError(f"{path}: {error}") from error
    except (
        Exception
    ) as error:  # h5py raises OSError, KeyError, RuntimeError, TypeError, MemoryError, ... on broken bytes
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> EnsembleError:
    cause = " ".join(str(error).split()) or type(error).__name__
    filter_failed = "filter returned failure" in cause  # the fletcher32 of a chunk is not that of its bytes
    what = "damaged" if filter_failed else "broken, or not an ensemble file"
    return EnsembleError(f"{path}: {what} ({cause})")


def _unreadable(path: Path, error: OSError) -> EnsembleError:
    """The error for an OSError while `path` is read, by the number that the system gives; without one it is broken."""
    if error.errno is None:
        return _broken(path, error)
    if isinstance(error, PermissionError):
        return EnsembleError(f"{path}: permission denied; its owner can let you read it")
    if isinstance(error, BlockingIOError):
        return EnsembleError(f"{path}: is in use: another program has locked it; wait, or close it there")
    if error.errno in _TOO_MANY:
        return StorageError(f"{path}: too many open files; raise the limit (ulimit -n), or give fewer files at once")
    if error.errno in _NO_LOCKS:
        return EnsembleError(f"{path}: its file system has no locks; set HDF5_USE_FILE_LOCKING=FALSE")
    kind = StorageError if error.errno in DISK_ERRORS else EnsembleError
    own = error.errno == errno.EINVAL and error.filename is not None  # of `require_regular`
    return kind(f"{path}: {error.strerror if own else os.strerror(error.errno)}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError while writing `path` into an EnsembleError that says that nothing committed is lost; into a
    StorageError if the disk is to blame.
    """
    try:
        yield
    except OSError as error:
        cause = error.strerror or " ".join(str(error).split())
        message = f"{path}: cannot be written ({cause}); what was written before is intact; correct this and run again"
        kind = StorageError if error.errno in DISK_ERRORS else EnsembleError
        raise kind(message) from error
