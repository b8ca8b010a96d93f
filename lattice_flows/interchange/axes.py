"""The axes of an array of another program: their order, and whether its shape is that of a theory's configurations."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from lattice_flows.ensembles import FieldSpec
from lattice_flows.errors import InputError
from lattice_flows.production.foreign_numbers import MU

CONFIG, CHAIN = "config", "chain"
Shape = tuple[int, ...]


def is_of_lattice(axis: str) -> bool:
    """Whether this is one of x0, x1, ..., whose lengths are those of the lattice."""
    return re.fullmatch(r"x\d+", axis) is not None


def parse_axes(text: str) -> tuple[str, ...]:
    """The names in "config,chain,mu,x0,x1", () where nothing is given. Raises InputError for a name given twice."""
    axes = tuple(part.strip() for part in text.split(",")) if text.strip() else ()
    if twice := [axis for axis, count in Counter(axes).items() if count > 1]:
        raise InputError(f"--axes {text}: names {twice[0]} twice")
    return axes


@dataclass(frozen=True)
class Axes:
    """The axes of the arrays of one import. field: of one configuration, its lattice of any size; given: their order
    in the arrays, () where it is the usual one, config, [chain,] and those of the field.
    """

    field: FieldSpec
    given: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        own = self.field.dims
        if self.given and (wrong := ({*self.given} - {CONFIG, CHAIN}) ^ {*own}):
            raise InputError(
                f"--axes {','.join(self.given)}: should name {', '.join(own)} in the order of the array, with config "
                f"and chain where it has them; wrong or missing: {', '.join(sorted(wrong))} (the axes of a lattice are "
                "called x0, x1, ...)"
            )

    @property
    def one_per_file(self) -> bool:
        """Whether every file is one configuration."""
        return bool(self.given) and CONFIG not in self.given

    def of(self, shape: Shape, where: object) -> tuple[str, ...]:
        """The order of the axes of an array. Raises InputError for a shape that does not fit, and for an array with
        more chains than configurations where the order is not given: it may be (chain, config, ...).
        """
        own = self.field.dims
        usual = (CONFIG, CHAIN, *own) if len(shape) == 2 + len(own) else (CONFIG, *own)
        in_file = self.given or usual
        if self.one_per_file:
            in_file = (CONFIG, *in_file)  # the axis of the files
        if not self._fits(in_file, shape):
            raise InputError(
                f"{where}: has the shape {shape}; it should be {self._wanted(in_file)}{self._advice(shape)}"
            )
        if not self.given and CHAIN in in_file and shape[1] > shape[0] > 0:
            swapped = ",".join((CHAIN, CONFIG, *own))
            raise InputError(
                f"{where}: has the shape {shape}: {shape[1]} chains of {shape[0]} configurations, or the other way "
                f"round? Say which by --axes {','.join(in_file)} or --axes {swapped}"
            )
        return in_file

    def _fits(self, in_file: tuple[str, ...], shape: Shape) -> bool:
        fixed = {axis: length for axis, length in zip(self.field.dims, self.field.shape) if not is_of_lattice(axis)}
        return len(in_file) == len(shape) and all(
            fixed.get(axis, length) == length and (length > 0 or axis == CONFIG) for axis, length in zip(in_file, shape)
        )

    def _wanted(self, in_file: tuple[str, ...]) -> str:
        """ "(config, [chain,] 2, L0, L1)", with the lengths that are known."""
        lengths = dict(zip(self.field.dims, self.field.shape))
        words = [axis.replace("x", "L") if is_of_lattice(axis) else str(lengths.get(axis, axis)) for axis in in_file]
        if self.given:
            return f"({', '.join(words)})"
        return f"(config, [chain,] {', '.join(words[-len(lengths) :])})"

    def _advice(self, shape: Shape) -> str:
        """The option that would make sense of the shape."""
        own = self.field.dims
        if not self.given and MU in own:
            for first in ((CONFIG,), (CONFIG, CHAIN)):
                turned = (*first, *(axis for axis in own if axis != MU), MU)
                if self._fits(turned, shape):
                    return f"; try --axes {','.join(turned)}"
        if not self.given and self._fits(own, shape):
            return f"; for files of one configuration each give --axes {','.join(own)}"
        return ""


def in_order(block: np.ndarray, in_file: tuple[str, ...], field: FieldSpec) -> np.ndarray:
    """A block of an array with its axes as in ensemble files, (config, chain, *event)."""
    if CHAIN not in in_file:
        block, in_file = block[None], (CHAIN, *in_file)
    return block.transpose([in_file.index(axis) for axis in (CONFIG, CHAIN, *field.dims)])
