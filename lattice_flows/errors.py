"""What is the user's to mend, and what is the disk's fault."""

from pathlib import Path

from lattice_flows.ensembles.errors import DISK_ERRORS


class InputError(ValueError):
    """What a person gave does not fit. The message is one line: what, where, and what would be right."""


def unwritable(path: Path, error: OSError) -> Exception:
    """What to raise where `path` could not be written: an OSError that names it for a full disk, else an InputError."""
    if error.errno in DISK_ERRORS:
        return OSError(error.errno, error.strerror, str(path))
    return InputError(f"{path}: cannot be written: {error.strerror}")
