"""What a computation asks of the host: found by watching torch's operations, on any device, with no GPU needed.

Torch's "meta" device holds shapes and no numbers. For the code it is a device like any other that is not the host, and
what waits for numbers of it (`.item()`, `bool`, `nonzero`, a copy to the host) raises. But many operations still take
index tensors and matrices that were made on the host; and a copy from the host waits, too. `Watch` sees these.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
_LOOKS = {aten._local_scalar_dense, aten.is_nonzero, aten.equal, aten.item}  # a number for Python
_DATA_SHAPED = {aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim, aten.repeat_interleave}
_INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
_FROM_PYTHON = {torch.tensor, torch.as_tensor, torch.from_numpy}


class Watch(TorchDispatchMode):
    """Collects, while it is active, every operation that waits for the device or brings something from the host.

    `looks`: a tensor's number handed to Python, and shapes that depend on numbers. `made_on_host`: tensors made of
    Python's numbers, lists used as an index, copies between devices, and, where `device` is not the host, host tensors
    that meet others. A number without dimensions is allowed: arithmetic takes it as an argument of its kernel.
    `double`: float64 tensors with more than `largest` numbers in memory.
    """

    def __init__(self, device: torch.device | str = "cpu", largest: float = float("inf")) -> None:
        super().__init__()
        self.device, self.largest = torch.device(device), largest
        self.looks: list[str] = []
        self.made_on_host: list[str] = []
        self.double: list[str] = []
        self._calls = _Calls(self.made_on_host)

    def __enter__(self) -> "Watch":
        self._calls.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._calls.__exit__(*exception)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        if packet in _LOOKS | _DATA_SHAPED or (packet in _INDEXING and _has_mask(args[1])):
            self.looks.append(str(func))
        result = func(*args, **(kwargs or {}))
        given, made = list(_tensors((args, kwargs))), list(_tensors(result))
        devices = {tensor.device for tensor in given + made if tensor.ndim > 0}
        if packet in {aten._to_copy, aten.copy_, aten.where}:  # numbers without dimensions are copied, too
            devices = {tensor.device for tensor in given + made}
        if len(devices) > 1 or (self.device.type != "cpu" and torch.device("cpu") in devices):
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


class _Calls(TorchFunctionMode):
    """Calls that carry Python's numbers into a tensor; below, where they are copied, nothing can be seen of it."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FROM_PYTHON or (func in (Tensor.__getitem__, Tensor.__setitem__) and _has_list(args[1])):
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _has_mask(indices: Any) -> bool:
    return any(index is not None and index.dtype == torch.bool for index in indices)


def _has_list(index: Any) -> bool:
    return any(hasattr(part, "__len__") and not isinstance(part, Tensor) for part in _parts(index))


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)
