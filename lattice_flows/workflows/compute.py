"""Threads and devices of this process."""

import os

import numba
import torch

from lattice_flows.workflows.errors import InputError


def kernel_threads(n_chains: int) -> int:
    """Threads for compiled kernels, which are parallel over chains: all cores, or as many as OMP_NUM_THREADS says."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_requested() or cores, numba.config.NUMBA_NUM_THREADS, n_chains)


def network_threads() -> int:
    """Threads for networks: one, or as many as OMP_NUM_THREADS says. On small lattices more gain nothing."""
    return min(_requested() or 1, numba.config.NUMBA_NUM_THREADS)


def _requested() -> int | None:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else None


def use_threads(n: int) -> None:
    """Compute on n threads, in compiled kernels and in torch."""
    numba.set_num_threads(n)
    torch.set_num_threads(n)


def resumed_threads(recorded: int, what: str) -> int:
    """The recorded thread count, which a network's bit-exact resume needs. Raises InputError where there are fewer."""
    if recorded > numba.config.NUMBA_NUM_THREADS:
        raise InputError(
            f"{what}: was begun on {recorded} threads and only {numba.config.NUMBA_NUM_THREADS} are here; "
            "its numbers would change"
        )
    return recorded


def resolve_device(name: str) -> torch.device:
    """The device of a card's `device`. Raises InputError for one that is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"device = {name!r}: not on this machine; use 'auto' or 'cpu'")
    return device
