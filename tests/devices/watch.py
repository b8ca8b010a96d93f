"""What a computation asks of the host: found by watching torch's operations, on any device, with no GPU needed.

Torch's "meta" device holds shapes and no numbers. For the code it is a device like any other that is not the host, and
what waits for numbers of it (`.item()`, `bool`, `nonzero`, a copy to the host) raises. Some operations still take index
tensors and matrices that were made on the host; and a copy from the host waits, too. `Watch` sees these.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
_LOOKS = {aten._local_scalar_dense, aten.is_nonzero, aten.equal, aten.item}  # a number for Python
_DATA_SHAPED = {aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim, aten.repeat_interleave}
_FROM_PYTHON = {aten.lift_fresh, aten.lift}  # torch.tensor(numbers): made on the host, whatever its device


class Watch(TorchDispatchMode):
    """Collects, while it is active, every operation that waits for the device or brings something from the host.

    `looks`: a tensor's number handed to Python, and shapes that depend on numbers. `made_on_host`: tensors made of
    Python's numbers, copies between devices and, where `device` is not the host, host tensors that meet others. A
    number without dimensions from the host is allowed where the operation takes it as an argument of its kernel.
    `double`: float64 tensors with more than `largest` numbers in memory.
    """

    def __init__(self, device: torch.device | str = "cpu", largest: float = float("inf")) -> None:
        super().__init__()
        self.device, self.largest = torch.device(device), largest
        self.looks: list[str] = []
        self.made_on_host: list[str] = []
        self.double: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        if packet in _LOOKS | _DATA_SHAPED or (packet is aten.index and _has_mask(args)):
            self.looks.append(str(func))
        result = func(*args, **(kwargs or {}))
        given, made = list(_tensors((args, kwargs))), list(_tensors(result))
        if packet in _FROM_PYTHON or (packet in {aten._to_copy, aten.copy_} and _devices(given + made) > 1):
            self.made_on_host.append(str(func))
        elif self.device.type != "cpu" and any(_from_host(tensor, packet) for tensor in given + made):
            self.made_on_host.append(f"{func} of {[(str(t.device), tuple(t.shape)) for t in given]}")
        for tensor in made:
            size = tensor.untyped_storage().nbytes() // 8
            if tensor.dtype in (torch.float64, torch.complex128) and size > self.largest:
                self.double.append(f"{func} -> {tuple(tensor.shape)}")
        return result

    @property
    def waits(self) -> list[str]:
        """All that a queue of work on a GPU would wait for."""
        return self.looks + self.made_on_host


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _devices(tensors: list[Tensor]) -> int:
    return len({tensor.device for tensor in tensors})


def _from_host(tensor: Tensor, packet: Any) -> bool:
    """`where` copies numbers without dimensions to the device; arithmetic passes them to its kernel."""
    return tensor.device.type == "cpu" and (tensor.ndim > 0 or packet is aten.where)


def _has_mask(args: Any) -> bool:
    return any(index is not None and index.dtype == torch.bool for index in args[1])
