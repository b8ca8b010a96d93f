"""Configurations of the target that a training learns from, or is judged by."""

import torch
from torch import Tensor

from lattice_flows.lattice import Space
from lattice_flows.training.source import Source

_TRIED = 16


class DataError(ValueError):
    """Data that are not configurations of the theory. The message is one line that says which and why."""


def check_configurations(x: Tensor, space: Space, event: tuple[int, ...], where: str) -> None:
    """Raise DataError unless x is (n, *event), finite and made of variables of this space."""
    if tuple(x.shape[1:]) != tuple(event):
        raise DataError(f"{where}: holds configurations of shape {list(x.shape[1:])}, the theory has {list(event)}")
    if not torch.isfinite(x).all():
        raise DataError(f"{where}: holds values that are not finite")
    if told := space.fault(x):
        raise DataError(f"{where}: does not hold {space}: {told}")


def check_source(source: Source, space: Space, event: tuple[int, ...], device: torch.device) -> None:
    """Draw a few configurations and check them. Raises DataError."""
    check_configurations(source.draw(_TRIED, torch.Generator(device).manual_seed(0)), space, event, "training.data")
