"""The target of an export or import, which appears complete or not at all; nothing beside it is touched."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lattice_flows.atomic_files import sync_folder


@contextmanager
def made_apart(target: Path) -> Iterator[Path]:
    """Yield a path in a new folder beside `target`; what the block writes there becomes `target` if it succeeds.

    A block that raises leaves nothing behind. The folder is new, so that no file of the user's can be mistaken for a
    leftover. Raises OSError if something cannot be written.
    """
    with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        made = Path(folder) / target.name
        yield made
        made.rename(target)
    sync_folder(target.parent)
