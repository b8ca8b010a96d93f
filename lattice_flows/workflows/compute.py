"""Threads and devices of this process."""

import os

import numba
import torch

from lattice_flows.workflows.errors import InputError


def available_threads() -> int:
    """The cores this process may use, or fewer if OMP_NUM_THREADS says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    limit = int(wanted) if wanted.isdigit() and int(wanted) > 0 else cores
    return min(cores, limit, numba.config.NUMBA_NUM_THREADS)


def use_threads(n: int) -> None:
    """Compute on n threads, in compiled kernels and in torch."""
    numba.set_num_threads(n)
    torch.set_num_threads(n)


def resumed_threads(recorded: int, what: str) -> int:
    """The recorded thread count, which a bit-exact resume needs. Raises InputError where there are fewer."""
    if recorded > available_threads():
        raise InputError(
            f"{what}: was begun on {recorded} threads and only {available_threads()} are here; its numbers would change"
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
