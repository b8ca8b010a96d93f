"""The precision of the networks' matrix products during a training step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from lattice_flows.flows.network_dtype import networks_in

NetworkPrecision = Literal["float32", "tf32", "bfloat16"]

_TENSOR_CORES = (8, 0)  # the compute capability from which processors know tf32 and bfloat16


@contextmanager
def network_precision(name: NetworkPrecision | None, device: torch.device) -> Iterator[None]:
    """Set the precision of the context networks for one step, from the samples to the gradient.

    None and "float32": that of the networks' weights, in full. "tf32": products of float32 matrices on a GPU round
    their factors to 11 bits; apart from those of the networks these are the sums of plaquettes that make the loops
    which the networks see, in a training in float32. "bfloat16": the networks compute with 8 bits, see
    `flows.network_dtype`. Maps, log_det and actions keep their type in any case, so that the density stays that of the
    samples; but at 8 bits the network of an inverse, whose arguments differ in their last digit, may round differently,
    and forward and inverse agree no better than that.

    Outside, and by default, tf32 is off. Raises ValueError for another name, and for a GPU that does not support the
    precision.
    """
    if name not in (None, "float32", "tf32", "bfloat16"):
        raise ValueError(f"training.network_precision must be float32, tf32 or bfloat16, got {name!r}")
    if name in ("tf32", "bfloat16") and device.type == "cuda":
        _require_tensor_cores(name, device)
    before = torch.get_float32_matmul_precision()
    # The one switch that also keeps torch.compile's own record of it: the newer names leave that behind, and it raises.
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    try:
        with networks_in(torch.bfloat16 if name == "bfloat16" else None):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _require_tensor_cores(name: str, device: torch.device) -> None:
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < _TENSOR_CORES:
        raise ValueError(f"training.network_precision = {name!r}: {device} is too old for it; use 'float32'")
