"""Who holds a lock file, as the file itself says."""

import json
import os
import socket
from pathlib import Path
from typing import NamedTuple


class Writer(NamedTuple):
    """Who holds a lock file; None where it does not say."""

    host: str | None
    pid: int | None

    @property
    def gone(self) -> bool:
        """Whether the process has ended; False where it cannot be seen from this host."""
        if self.host != socket.gethostname() or self.pid is None:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):  # another user's; no pid at all
            pass
        return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.host else "a process that does not say which"


def writer_of(lock: Path) -> Writer | None:
    """Whom the lock file names. Its lock is not tried: even that could turn away a writer who begins just then."""
    try:
        text = lock.read_bytes()[:4096]
        if not text:  # a training ended, and left the file
            return None
        content = json.loads(text)
        return Writer(str(content["host"]), int(content["pid"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return Writer(None, None)


def writer_note(writer: Writer | None) -> str:
    """In words; nothing where the lock says nothing."""
    if writer is None or writer.host is None:
        return ""
    return f"{writer} wrote this and is gone; run again to go on" if writer.gone else f"written by {writer}"
