"""Fields in .npy files of other codes: their axes, and their numbers as variables of a theory's space."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from lattice_flows.ensembles import FieldSpec
from lattice_flows.errors import InputError, nothing_at
from lattice_flows.lattice import CIRCLE, Space
from lattice_flows.regular_files import require_regular
from lattice_flows.statistics import MIN_LENGTH

MuAxis = Literal["first", "last"]

MU = "mu"  # the axis of directions
_MODULUS_TOLERANCE = 1e-6  # of angles given as complex numbers
_LARGEST_ANGLE = 1e6  # beyond, wrapping leaves too few digits, and it was no angle


@dataclass(frozen=True)
class Layout:
    """The axes of a configuration in a file, (name, length) with None for the axes of the lattice; and the space."""

    axes: tuple[tuple[str, int | None], ...]
    space: Space

    @classmethod
    def of(cls, field: FieldSpec, space: Space) -> "Layout":
        """That of an ensemble's fields."""
        lengths = [None if re.fullmatch(r"x\d+", name) else length for name, length in zip(field.dims, field.shape)]
        return cls(tuple(zip(field.dims, lengths)), space)

    def __str__(self) -> str:
        names = [name.replace("x", "L") if length is None else str(length) for name, length in self.axes]
        return f"(config, [chain,] {', '.join(names)})"

    @property
    def of_links(self) -> bool:
        """Whether there is a variable for each direction."""
        return any(name == MU for name, _ in self.axes)

    def with_directions(self, mu_axis: MuAxis) -> "Layout":
        """With the axis of directions in this place. Raises InputError if there is none that could be the last."""
        if mu_axis == "first":
            return self
        if not self.of_links:
            raise InputError("import: mu_axis: these fields have no axis of directions; leave it out")
        return replace(self, axes=(*self.axes[1:], self.axes[0]))

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape holds such configurations, of one chain or several."""
        event = shape[-len(self.axes) :]
        one_or_two = len(shape) - len(self.axes) in (1, 2)
        return one_or_two and all(length in (None, found) for (_, length), found in zip(self.axes, event))

    def lattice_shape(self, event: tuple[int, ...]) -> tuple[int, ...]:
        """The extents of the lattice of a configuration of this shape."""
        return tuple(found for found, (_, length) in zip(event, self.axes) if length is None)


@dataclass(frozen=True)
class Source:
    """One file, mapped into memory: fields of shape (config, chain, *event), in the dtype of the file."""

    path: Path
    fields: np.ndarray
    sha256: str

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of a configuration."""
        return self.fields.shape[2:]


def mapped(path: Path, layout: Layout, mu_axis: MuAxis) -> np.ndarray:
    """The fields (config, chain, *event), mapped into memory. Raises InputError for other shapes, types and files."""
    in_file = layout.with_directions(mu_axis)
    try:
        require_regular(path)
        fields = np.lib.format.open_memmap(path, mode="r")  # knows arrays of numbers alone, no pickles and no archives
    except OSError as error:
        raise nothing_at(path, error.strerror or "cannot be read") from None
    except Exception as error:  # whatever numpy's reader of headers makes of hostile bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not an .npy file of numbers ({reason})") from None
    kinds, advice = _numbers(layout)
    if fields.dtype.kind not in kinds:
        raise InputError(f"{path}: holds {fields.dtype}; {advice}")
    if not in_file.fits(fields.shape):
        turned = layout.of_links and mu_axis == "first" and layout.with_directions("last").fits(fields.shape)
        advice = "; try mu_axis = last" if turned else ""
        raise InputError(f"{path}: has the shape {fields.shape}; it should be {in_file}{advice}")
    if len(fields) < MIN_LENGTH:
        raise InputError(f"{path}: holds {len(fields)} configurations; at least {MIN_LENGTH} are needed")
    if mu_axis == "last":
        fields = np.moveaxis(fields, -1, -len(layout.axes))
    return fields[:, None] if fields.ndim == 1 + len(layout.axes) else fields  # (config, chain, *event)


def _numbers(layout: Layout) -> tuple[str, str]:
    """The kinds of numpy's numbers that such variables can come as, and in words what to give."""
    if layout.space == CIRCLE:
        return "fc", f"give angles as real floats, or {_with_angle(layout)}s as complex numbers"
    if np.dtype(layout.space.dtype).kind == "i":
        return "iuf", f"give {layout.space}"
    return "f", f"give {layout.space} as real floats"


def _with_angle(layout: Layout) -> str:
    """What an angle stands for."""
    return "link" if layout.of_links else "spin"


def blocks(sources: Sequence[Source], layout: Layout, block_bytes: int) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks (n, B, *event) of variables from all files, and the number of angles among them that were wrapped.

    Raises InputError that names the first configuration with other values.
    """
    n_configs = len(sources[0].fields)
    row_bytes = sum(8 * math.prod(source.fields.shape[1:]) for source in sources)
    step = max(1, block_bytes // row_bytes)
    read = _angles if layout.space == CIRCLE else _variables
    for start in range(0, n_configs, step):
        parts = [read(source.path, source.fields[start : start + step], start, layout) for source in sources]
        x = np.ascontiguousarray(np.concatenate(parts, axis=1))
        yield x, _wrap(x) if layout.space == CIRCLE else 0


def _wrap(x: np.ndarray) -> int:
    """Bring angles into [-pi, pi), in place; returns how many were outside. Of the others not a bit is changed."""
    outside = (x < -math.pi) | (x >= math.pi)
    n_outside = int(np.count_nonzero(outside))
    if n_outside:
        x[outside] = CIRCLE.wrap(torch.from_numpy(x[outside])).numpy()
    return n_outside


def _angles(path: Path, fields: np.ndarray, first_config: int, layout: Layout) -> np.ndarray:
    """Finite angles, not yet wrapped."""
    if fields.dtype.kind == "c":
        right = np.abs(np.abs(fields) - 1.0) <= _MODULUS_TOLERANCE
        what = f"a {_with_angle(layout)} whose modulus is not 1 to {_MODULUS_TOLERANCE:g}"
        _refuse(path, right, first_config, what)
        return np.angle(fields).astype(np.float64)
    angles = fields.astype(np.float64)
    right = np.abs(angles) <= _LARGEST_ANGLE  # false for what is not finite
    _refuse(
        path, right, first_config, f"an angle that is not a number between -{_LARGEST_ANGLE:g} and {_LARGEST_ANGLE:g}"
    )
    return angles


def _variables(path: Path, fields: np.ndarray, first_config: int, layout: Layout) -> np.ndarray:
    """Variables of a space other than the circle, in its dtype."""
    space = layout.space
    _refuse(path, np.isfinite(fields), first_config, "a number that is not finite")
    x = torch.from_numpy(fields.astype(np.float64 if fields.dtype.kind == "f" else np.int64))
    if space.fault(x.flatten(0, 1)) is not None:
        for config, chain in np.ndindex(fields.shape[:2]):
            if told := space.fault(x[config, chain : chain + 1]):
                raise InputError(f"{path}: configuration {first_config + config}, chain {chain}: {told}")
    # What was rounded to single precision is still so much off; other numbers keep every bit.
    rounded = np.dtype(space.dtype).kind == "f" and fields.dtype != np.float64
    return (space.wrap(x) if rounded else x).numpy().astype(space.dtype)


def _refuse(path: Path, right: np.ndarray, first_config: int, what: str) -> None:
    if not right.all():
        config, chain = np.argwhere(~right)[0][:2]
        raise InputError(f"{path}: configuration {first_config + config}, chain {chain} holds {what}")
