"""The memory that this process may still use."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory.limit_in_bytes")  # of version 2 and 1
_NO_LIMIT = 2**60  # what version 1 says where there is none is a little below 2^63


def free_memory() -> int:
    """Bytes that this process can still have: of the machine, of its job's share, and of the limit of its shell.

    Where a machine does not say, all that it has.
    """
    return max(0, min(_of_machine(), *_of_job(), _of_shell()))


def in_words(n_bytes: float) -> str:
    """Bytes for a reader: '1.2 GB'."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}" if n_bytes < 1e15 else f"{n_bytes / size:.1e} {unit}"
    return f"{n_bytes / 1e3:.3g} kB"


def _of_machine() -> int:
    """What the kernel can give without pushing anybody out, and the free swap."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = {key: int(rest.split()[0]) * 1024 for key, _, rest in (line.partition(":") for line in lines)}
        return found["MemAvailable"] + found.get("SwapFree", 0)
    except (OSError, ValueError, KeyError, IndexError):  # another system than Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_job() -> Iterator[int]:
    """The limits of the control groups in which this process is, as a batch system or a container sets them."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        place = _CGROUPS / controllers / path.lstrip("/")
        for folder in (place, *place.parents):
            if folder.is_relative_to(_CGROUPS):
                yield from _limits_in(folder)
    yield _NO_LIMIT


def _limits_in(folder: Path) -> Iterator[int]:
    for name in _LIMITS:
        try:
            yield int((folder / name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # there is no such group, or "max"
            continue


def _of_shell() -> int:
    """What `ulimit -v` leaves."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return _NO_LIMIT
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        pages = 0
    return limit - pages * os.sysconf("SC_PAGE_SIZE")
