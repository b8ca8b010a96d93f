"""Numbers of other programs as the variables of a theory's field, with what cannot be such variables refused."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lattice_flows.ensembles import FieldSpec
from lattice_flows.errors import InputError, nothing_at
from lattice_flows.lattice import CIRCLE, Space
from lattice_flows.regular_files import require_regular

MU = "mu"  # the axis of directions

_MODULUS_TOLERANCE = 1e-6  # of angles given as complex numbers
_LARGEST_ANGLE = 1e6  # beyond, wrapping leaves too few digits, and it was no angle


class NotVariables(ValueError):
    """Numbers that cannot be variables of the theory: those of one configuration of one chain, counted from 0."""

    def __init__(self, config: int, chain: int, what: str) -> None:
        super().__init__(what)
        self.config, self.chain, self.what = config, chain, what


@dataclass(frozen=True)
class ForeignNumbers:
    """How numbers of other programs are read as such a field."""

    space: Space
    of_links: bool

    @classmethod
    def of(cls, field: FieldSpec, space: Space) -> "ForeignNumbers":
        """Those for an ensemble's fields."""
        return cls(space, MU in field.dims)

    def check_type(self, dtype: np.dtype) -> None:
        """Raise ValueError, with what to give instead, for a type that such variables cannot come as."""
        if self.space == CIRCLE:
            kinds, advice = "fc", f"give angles as real floats, or {self._with_angle}s as complex numbers"
        elif np.dtype(self.space.dtype).kind == "i":
            kinds, advice = "iuf", f"give {self.space}"
        else:
            kinds, advice = "f", f"give {self.space} as real floats"
        if dtype.kind not in kinds:
            raise ValueError(f"holds {dtype}; {advice}")

    @property
    def _with_angle(self) -> str:
        """What an angle stands for."""
        return "link" if self.of_links else "spin"

    def read(self, x: np.ndarray) -> np.ndarray:
        """The variables x (n, B, *event), in the dtype of their space; angles are not wrapped yet, see `wrap_angles`.

        Raises NotVariables for the first configuration that holds anything else.
        """
        if self.space == CIRCLE:
            return self._angles(x)
        _require(np.isfinite(x), "holds a number that is not finite")
        numbers = torch.from_numpy(x.astype(np.float64 if x.dtype.kind == "f" else np.int64))
        if self.space.fault(numbers.flatten(0, 1)) is not None:
            for config, chain in np.ndindex(x.shape[:2]):
                if told := self.space.fault(numbers[config, chain : chain + 1]):
                    raise NotVariables(config, chain, told)
        # What was rounded to single precision is still so much off; other numbers keep every bit.
        rounded = np.dtype(self.space.dtype).kind == "f" and x.dtype != np.float64
        return (self.space.wrap(numbers) if rounded else numbers).numpy().astype(self.space.dtype)

    def _angles(self, x: np.ndarray) -> np.ndarray:
        if x.dtype.kind == "c":
            right = np.abs(np.abs(x) - 1.0) <= _MODULUS_TOLERANCE
            _require(right, f"holds a {self._with_angle} whose modulus is not 1 to {_MODULUS_TOLERANCE:g}")
            return np.angle(x).astype(np.float64)
        angles = x.astype(np.float64)
        right = np.abs(angles) <= _LARGEST_ANGLE  # false for what is not finite
        _require(right, f"holds an angle that is not a number between -{_LARGEST_ANGLE:g} and {_LARGEST_ANGLE:g}")
        return angles

    def wrap_angles(self, x: np.ndarray) -> int:
        """Bring angles into [-pi, pi), in place; returns how many were outside. Not a bit of the others is changed."""
        if self.space != CIRCLE:
            return 0
        outside = (x < -math.pi) | (x >= math.pi)
        n_outside = int(np.count_nonzero(outside))
        if n_outside:
            x[outside] = CIRCLE.wrap(torch.from_numpy(x[outside])).numpy()
        return n_outside


def _require(right: np.ndarray, what: str) -> None:
    """Raise NotVariables for the first configuration in which anything is not right."""
    if not right.all():
        config, chain = np.argwhere(~right)[0][:2]
        raise NotVariables(int(config), int(chain), what)


def mapped_npy(path: Path) -> np.ndarray:
    """The array of numbers in an .npy file, mapped into memory. Raises InputError for any other file."""
    try:
        require_regular(path)
        array = np.lib.format.open_memmap(path, mode="r")  # knows arrays of numbers alone, no pickles and no archives
        n_more = path.stat().st_size - array.offset - array.nbytes
    except OSError as error:
        raise nothing_at(path, error.strerror or "cannot be read") from None
    except Exception as error:  # whatever numpy's reader of headers makes of hostile bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not an .npy file of numbers ({reason})") from None
    if n_more:  # numpy reads over them without a word
        raise InputError(f"{path}: {n_more} bytes follow its array; give files of one array each")
    return array
