"""Where an export or import puts its result: it appears whole or not at all, and nothing beside it is touched."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lattice_flows.atomic_files import sync_folder


@contextmanager
def made_apart(target: Path) -> Iterator[Path]:
    """Yields a path in a new folder beside `target`. The file or folder made there is moved to `target` at the end.

    A block that raises leaves nothing behind. The folder is new, so that no file of the user's can be taken for a
    leftover. Raises OSError if something cannot be written.
    """
    with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        made = Path(folder) / target.name
        yield made
        made.rename(target)
    sync_folder(target.parent)
