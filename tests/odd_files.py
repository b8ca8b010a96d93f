"""What a person may name in place of a file, and would make a program wait, or read for ever."""

import os
from pathlib import Path

ODD = {
    "pipe": "is a pipe, not a file",
    "endless device": "is a device, not a file",
    "folder": "Is a directory",
    "cycle of links": "Too many levels of symbolic links",
    "nothing": "No such file or directory",
}
"""The kinds, and how they are told."""


def make_odd(kind: str, path: Path) -> Path:
    """Put it at this path, which is returned."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "cycle of links":
        path.symlink_to(path.name)
    return path
