"""Numbers that take long to compute, kept in `lattice_flows/closed_forms` of the user's cache folder.

That is $XDG_CACHE_HOME, or ~/.cache. What is there can be deleted at any time. A file that is damaged, or of other
code, counts as absent, and a folder that cannot be written, or that others can write, is none.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lattice_flows.atomic_files import write_atomically
from lattice_flows.kernels.private_folders import is_private, make_private

_WORTH_KEEPING = 0.5  # seconds


def cached_on_disk(
    key: Sequence[Any], modules: Sequence[ModuleType], compute: Callable[[], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """compute(), or what it returned before for this key and the same sources of these modules.

    key: all that determines the numbers, in JSON's types. It is kept where it took more than half a second.
    """
    identity = json.dumps([*key, [_digest(module) for module in modules]])
    path = _folder() / f"{_sha256(identity)[:32]}.json"
    held = _read(path, identity)
    if held is not None:
        return held
    start = time.perf_counter()
    values = compute()
    if time.perf_counter() - start > _WORTH_KEEPING:
        _keep(path, {"key": identity, "values": values.tolist(), "sha256": _sha256(json.dumps(values.tolist()))})
    return values


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    home = os.path.expanduser("~/.cache")  # as it is where there is no home
    return Path(base if os.path.isabs(base) else home) / "lattice_flows" / "closed_forms"


def _digest(module: ModuleType) -> str:
    assert module.__file__ is not None
    return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()[:16]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path, identity: str) -> NDArray[np.float64] | None:
    if not is_private(path.parent):
        return None
    try:
        held = json.loads(path.read_bytes())
        if held["key"] != identity or held["sha256"] != _sha256(json.dumps(held["values"])):
            return None
        return np.array(held["values"], dtype=np.float64)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _keep(path: Path, held: dict[str, Any]) -> None:
    if not path.is_absolute():
        return
    try:
        make_private(path.parent)
        write_atomically(path, json.dumps(held).encode(), durable=False)
    except OSError:
        return
