"""How configurations lie in arrays of other codes: link angles, and points of theories without a lattice."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from lattice_flows.errors import InputError
from lattice_flows.lattice import CIRCLE, Space

MuAxis = Literal["first", "last"]

_MODULUS_TOLERANCE = 1e-6  # of links given as complex numbers
_LARGEST_ANGLE = 1e6  # beyond, wrapping leaves too few digits, and it was no angle


class Layout(ABC):
    """The axes of a file's array, and what its numbers may be."""

    kinds: str
    """Of dtypes, as numpy's."""
    wanted: str
    """What they should be, for messages."""
    axes: str
    """Of an array, for messages."""

    @abstractmethod
    def arranged(self, x: np.ndarray) -> np.ndarray | None:
        """A view (config, chain, *event) of the array of a file, or None if it has other axes."""

    def advice(self, x: np.ndarray) -> str:
        """What else to try with an array of other axes."""
        return ""

    @abstractmethod
    def numbers(self, path: Path, x: np.ndarray, first_config: int) -> np.ndarray:
        """The variables of a block of the file at `path` as float64, a copy, not yet wrapped.

        Raises InputError that names the first configuration with anything else.
        """

    @abstractmethod
    def wrap(self, x: np.ndarray) -> int:
        """Make them standard representatives in place; returns how many were whole turns off."""


@dataclass(frozen=True)
class Links(Layout):
    """(config, [chain,] 2, L0, L1), or the axis of directions last: angles, or complex numbers of modulus 1."""

    mu_axis: MuAxis
    kinds = "fc"
    wanted = "give angles as real floats, or links as complex numbers"

    @property
    def axes(self) -> str:  # type: ignore[override]
        return "(config, [chain,] 2, L0, L1)" if self.mu_axis == "first" else "(config, [chain,] L0, L1, 2)"

    def arranged(self, x: np.ndarray) -> np.ndarray | None:
        mu = -3 if self.mu_axis == "first" else -1
        if x.ndim not in (4, 5) or x.shape[mu] != 2:
            return None
        x = np.moveaxis(x, mu, -3)
        return x[:, None] if x.ndim == 4 else x

    def advice(self, x: np.ndarray) -> str:
        looks_last = self.mu_axis == "first" and x.ndim in (4, 5) and x.shape[-1] == 2
        return "; try mu_axis = last" if looks_last else ""

    def numbers(self, path: Path, x: np.ndarray, first_config: int) -> np.ndarray:
        if x.dtype.kind == "c":
            right = np.abs(np.abs(x) - 1.0) <= _MODULUS_TOLERANCE
            _refuse(path, right, first_config, f"a link whose modulus is not 1 to {_MODULUS_TOLERANCE:g}")
            return np.angle(x).astype(np.float64)
        angles = x.astype(np.float64)
        right = np.abs(angles) <= _LARGEST_ANGLE  # false for what is not finite
        between = f"between -{_LARGEST_ANGLE:g} and {_LARGEST_ANGLE:g}"
        _refuse(path, right, first_config, f"an angle that is not a number {between}")
        return angles

    def wrap(self, x: np.ndarray) -> int:
        outside = (x < -math.pi) | (x >= math.pi)
        if n_outside := int(np.count_nonzero(outside)):  # and where not, not a bit is changed
            x[outside] = CIRCLE.wrap(torch.from_numpy(x[outside])).numpy()
        return n_outside


@dataclass(frozen=True)
class Points(Layout):
    """(config, [chain,] *event) of a theory without a lattice."""

    event: tuple[int, ...]
    space: Space
    kinds = "f"
    wanted = "give real floats"

    @property
    def axes(self) -> str:  # type: ignore[override]
        return f"(config, [chain,] {', '.join(map(str, self.event))})"

    def arranged(self, x: np.ndarray) -> np.ndarray | None:
        n = len(self.event)
        if x.ndim not in (1 + n, 2 + n) or x.shape[-n:] != self.event:
            return None
        return x[:, None] if x.ndim == 1 + n else x

    def numbers(self, path: Path, x: np.ndarray, first_config: int) -> np.ndarray:
        values = x.astype(np.float64)
        _refuse(path, np.isfinite(values), first_config, "a number that is not finite")
        if values.size and (fault := self.space.fault(torch.from_numpy(values))):
            raise InputError(f"{path}: its variables should be {self.space}: {fault}")
        return values

    def wrap(self, x: np.ndarray) -> int:
        x[:] = self.space.wrap(torch.from_numpy(x)).numpy()  # of what single precision has moved
        return 0


def _refuse(path: Path, right: np.ndarray, first_config: int, what: str) -> None:
    if not right.all():
        config, chain = np.argwhere(~right)[0][:2]
        raise InputError(f"{path}: configuration {first_config + config}, chain {chain} holds {what}")
