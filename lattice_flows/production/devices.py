"""Threads and devices of this process."""

import os

import numba
import torch

from lattice_flows.errors import InputError
from lattice_flows.kernels.threads import start_threads


def kernel_threads(n_chains: int) -> int:
    """The number of threads for compiled kernels, parallel over chains: OMP_NUM_THREADS if set, else all cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_requested() or cores, numba.config.NUMBA_NUM_THREADS, n_chains)


def network_threads() -> int:
    """The number of threads for networks: OMP_NUM_THREADS if it is set, else one; small lattices gain from no more."""
    return min(_requested() or 1, numba.config.NUMBA_NUM_THREADS)


def _requested() -> int | None:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else None


def use_threads(n: int) -> None:
    """Compute on n threads, in compiled kernels and in torch."""
    start_threads()
    numba.set_num_threads(n)
    torch.set_num_threads(n)


def resumed_threads(recorded: int, what: str) -> int:
    """The recorded thread count, which a bit-exact resume of a network needs. Raises InputError if there are fewer."""
    if recorded > numba.config.NUMBA_NUM_THREADS:
        raise InputError(
            f"{what}: was begun on {recorded} threads, but only {numba.config.NUMBA_NUM_THREADS} are available; "
            "its numbers would change"
        )
    return recorded


def resolve_device(name: str) -> torch.device:
    """The device for a card's `device`; from now on its float32 products are exact to float32 (no tf32).

    Under torchrun, "auto" and "cuda" are the GPU of this process: number LOCAL_RANK modulo the number of GPUs that it
    sees, which is one if the scheduler assigns them. Raises InputError for a device that is not available.
    """
    full_precision()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda:") and os.environ.get("LOCAL_WORLD_SIZE", "1") not in ("", "1"):
        raise InputError(f"device = {name!r}: several processes would share it; with torchrun use 'cuda' or 'auto'")
    absent = InputError(f"device = {name!r}: not on this machine; use 'auto' or 'cpu'")
    try:
        device = _own_gpu() if name == "cuda" and torch.cuda.is_available() else torch.device(name)
    except RuntimeError:  # a number that no machine has
        raise absent from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise absent
    return device


def device_for_analysis(name: str) -> torch.device:
    """The card's device if it is available, else the CPU, so that a run made on GPUs may be analysed anywhere."""
    try:
        return resolve_device(name)
    except InputError:
        return torch.device("cpu")


def full_precision() -> None:
    """Let products of float32 matrices keep all 24 bits; torch's default rounds some of them to 11 on a GPU (tf32)."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def _own_gpu() -> torch.device:
    """The GPU of this process among torchrun's processes on this machine, or without torchrun the current GPU."""
    local_rank, n_gpus = os.environ.get("LOCAL_RANK"), torch.cuda.device_count()
    if local_rank is None or n_gpus == 0:
        return torch.device("cuda")
    if not local_rank.isdecimal():
        raise InputError(f"LOCAL_RANK = {local_rank!r}: is not the number of a process; leave it to torchrun to set it")
    return torch.device("cuda", int(local_rank) % n_gpus)
