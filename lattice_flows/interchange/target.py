"""Where an export or an import puts what it makes: whole or not at all, and nothing beside it is touched."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lattice_flows.atomic_files import sync_folder


@contextmanager
def made_apart(target: Path) -> Iterator[Path]:
    """Yields a path in a new folder beside `target`; what the block makes there becomes `target` if it ends well.

    In a folder of its own nothing is taken for what a kill has left. Raises OSError where the disk refuses.
    """
    with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        made = Path(folder) / target.name
        yield made
        made.rename(target)
    sync_folder(target.parent)
