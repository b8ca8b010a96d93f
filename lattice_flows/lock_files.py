"""Lock files: flock on a small file that names its holder, host and pid.

The kernel drops the lock with the process, however it ends, so a lock file left behind by a kill blocks nobody. A file
of the same name that somebody else has put there, or a link, is neither followed nor changed.
"""

import errno
import fcntl
import json
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

SETTING = "LATTICE_FLOWS_LOCKING"

_BEGINNING = b'{"host": '
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})  # of flock, where there is none


def open_lock(path: Path) -> int:
    """The descriptor of the lock file, which is made if there is none.

    Raises FileExistsError, whose `strerror` says what is wrong, for anything that is no lock of this package.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileExistsError(
                errno.EEXIST, "is a link, not a lock of lattice-flows; move it away", str(path)
            ) from None
        raise
    if not _is_lock(descriptor):
        os.close(descriptor)
        raise FileExistsError(errno.EEXIST, "is not a lock of lattice-flows; move it away", str(path))
    return descriptor


def _is_lock(descriptor: int) -> bool:
    """Whether it is empty, or names a holder; a kill may leave any part of that, and a power failure zeros."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    content = os.pread(descriptor, 4096, 0).strip(b"\0")
    return content.startswith(_BEGINNING) or _BEGINNING.startswith(content)


def hold(descriptor: int, path: Path) -> None:
    """Take the lock, until the descriptor is closed. Does nothing where LATTICE_FLOWS_LOCKING is off.

    Raises BlockingIOError if another process has it, OSError, which says what to do, if the file system has no locks.
    """
    if not is_on():
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        advice = f"use another one, or set {SETTING}=off and let only one process write"
        text = f"cannot be locked ({error.strerror}): this file system has no locks; {advice}"
        raise OSError(error.errno, text, str(path)) from None


def is_on() -> bool:
    """Whether files are locked. Raises OSError for a value of LATTICE_FLOWS_LOCKING that is neither on nor off."""
    value = os.environ.get(SETTING) or "on"
    if value not in ("on", "off"):
        raise OSError(errno.EINVAL, f"{SETTING} = {value!r}: must be on or off")
    return value == "on"


def sign(descriptor: int) -> None:
    """Write this process into the lock file. On a full disk it stays nameless, and holds all the same."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0)


def holder_of(descriptor: int) -> tuple[str | None, int | None]:
    """The host and the pid in the lock file, None if it names nobody."""
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
        return str(content["host"]), int(content["pid"])
    except (ValueError, KeyError, TypeError):
        return None, None
