"""The process that holds a lock file, according to the file itself."""

import json
import os
import socket
from pathlib import Path
from typing import NamedTuple

from lattice_flows.regular_files import open_regular


class Writer(NamedTuple):
    """The process that holds a lock file; fields are None if the file does not name it."""

    host: str | None
    pid: int | None

    @property
    def gone(self) -> bool:
        """Whether the process has ended; False if that cannot be seen from this host."""
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
        return f"process {self.pid} on {self.host}" if self.host else "an unnamed process"


def writer_of(lock: Path) -> Writer | None:
    """The writer that the lock file names. The lock is not tried, as that could turn away a writer that is starting."""
    try:
        with open_regular(lock) as file:
            text = file.read(4096)
        if not text:  # a training ended, and left the file
            return None
        content = json.loads(text)
        return Writer(str(content["host"]), int(content["pid"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return Writer(None, None)


def writer_note(writer: Writer | None) -> str:
    """A note about the writer; empty if the lock names none."""
    if writer is None or writer.host is None:
        return ""
    return f"{writer} wrote this and has ended; run again to continue" if writer.gone else f"written by {writer}"
