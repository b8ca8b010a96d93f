"""Masks of couplings: which variables move in each of a coupling's steps, given all others."""

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from lattice_flows.flows.map_catalogue import MapCatalogue, MapTable
from lattice_flows.flows.plan import check_between
from lattice_flows.flows.transforms.plan import Fields

Mask = NDArray[np.bool_]
"""The active variables of a step, True where they are, shaped like a configuration."""

_MOST_HALVES = 100


def checkerboard(fields: Fields) -> list[Mask]:
    """The colours of the sites one after another; of vectors, every second coordinate.

    The colour is the sum of the coordinates modulo the smallest prime that divides all sides: 2 where all of them are
    even. If none does, the first coordinate alone decides that has more than one value.
    """
    shape = fields.sites or fields.shape
    n_colours = _prime(math.gcd(*shape))
    colours = np.indices(shape).sum(0) % n_colours
    if n_colours == 1:
        axis = next((axis for axis, side in enumerate(shape) if side > 1), 0)
        n_colours = _prime(shape[axis]) if fields.sites else 2
        colours = np.indices(shape)[axis] % n_colours
    return [np.broadcast_to(colours == k, fields.shape) for k in range(n_colours)]


def stripes(fields: Fields) -> list[Mask]:
    """Every second line along each axis in turn; every p-th where the smallest prime that divides the side is p."""
    _require_sites(fields)
    steps = []
    for axis, side in enumerate(fields.sites):
        n_colours = _prime(side)
        colours = np.indices(fields.sites)[axis] % n_colours
        steps += [np.broadcast_to(colours == k, fields.shape) for k in range(n_colours) if n_colours > 1]
    return steps


def channels(fields: Fields) -> list[Mask]:
    """The first half of the channels, then the second; of vectors, of the coordinates."""
    if not fields.channels:
        raise ValueError(f"the mask 'channels' needs channels, which 'blocks' makes, got {fields}")
    first = np.arange(fields.shape[0]) < fields.shape[0] // 2
    of_first = np.broadcast_to(first.reshape(-1, *[1] * len(fields.sites)), fields.shape)
    return [of_first, ~of_first]


def random(fields: Fields, seed: int = 0, n_halves: int = 1) -> list[Mask]:
    """A random half of the variables, then the other one, `n_halves` times with other halves."""
    check_between("n_halves", n_halves, 1, _MOST_HALVES)
    check_between("seed", seed, 0, 2**63 - 1)
    generator = np.random.default_rng(seed)
    ranks = [generator.permutation(fields.n).reshape(fields.shape) for _ in range(n_halves)]
    return [mask for rank in ranks for mask in (rank < fields.n // 2, rank >= fields.n // 2)]


def hierarchical(fields: Fields) -> list[Mask]:
    """From coarse to fine: the sites of a coarse lattice, then those between them, by the number of odd coordinates.

    The spacing of the coarsest lattice is the largest power of 2 that divides all sides. Where that is 1 the colours of
    "checkerboard" take its place.
    """
    _require_sites(fields)
    spacing = math.gcd(*fields.sites)
    spacing &= -spacing  # its largest power of 2
    if spacing == 1:
        return checkerboard(fields)
    coordinates = np.indices(fields.sites)
    steps = [(coordinates % spacing == 0).all(0)]
    while spacing > 1:
        spacing //= 2
        on_lattice = (coordinates % spacing == 0).all(0)
        n_odd = ((coordinates // spacing) % 2 == 1).sum(0)
        steps += [on_lattice & (n_odd == k) for k in range(len(fields.sites), 0, -1)]
    return [np.broadcast_to(step, fields.shape) for step in steps]


def first_channel(fields: Fields) -> list[Mask]:
    """The colours of "checkerboard" in channel 0 alone, given all channels: the block sums, given the details."""
    if not (fields.channels and fields.sites):
        raise ValueError(f"the mask 'first_channel' needs channels, which 'blocks' makes, got {fields}")
    first = np.zeros(fields.shape, bool)
    first[0] = True
    return [step & first for step in checkerboard(fields)]


MASKS = MapCatalogue[list[Mask]](
    {
        "checkerboard": checkerboard,
        "stripes": stripes,
        "channels": channels,
        "random": random,
        "hierarchical": hierarchical,
        "first_channel": first_channel,
    },
    given=("fields",),
    what="mask",
)

MaskTable = Annotated[MapTable, MASKS]


def masks_of(table: MaskTable, fields: Fields) -> list[Mask]:
    """The steps of a coupling. Raises ValueError where one of them leaves nothing to move or nothing to see."""
    steps = MASKS.build(table, fields=fields)
    if not steps or any(not step.any() or step.all() for step in steps):
        raise ValueError(f"the mask {MASKS.split(table)[0]!r} does not divide the variables of {fields}")
    return steps


def _prime(n: int) -> int:
    """The smallest prime that divides n; 1 of 1."""
    return next((p for p in range(2, n + 1) if n % p == 0), 1)


def _require_sites(fields: Fields) -> None:
    if not fields.sites:
        raise ValueError(f"this mask needs a lattice, got {fields}")
