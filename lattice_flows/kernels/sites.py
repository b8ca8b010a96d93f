"""The sites of a periodic lattice of any dimension, as flat indices: neighbours, and which of them are independent."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Sites = NDArray[np.int32]


@cache
def neighbour_table(shape: tuple[int, ...]) -> Sites:
    """The 2 D neighbours of every site, (V, 2 D). Along an axis of extent 2 one site is a neighbour twice.

    Raises ValueError for an extent below 2, where a site would be its own neighbour.
    """
    if not shape or min(shape) < 2:
        raise ValueError(f"every extent of the lattice must be >= 2, got {shape}")
    sites = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    shifted = [np.roll(sites, step, axis).ravel() for axis in range(len(shape)) for step in (-1, 1)]
    return np.stack(shifted, axis=1)


@cache
def colours(shape: tuple[int, ...]) -> Sites:
    """The colour of every site, (V,): no two neighbours have the same.

    There are two colours where all extents are even, and three otherwise. Raises ValueError for an extent below 2.
    """
    neighbour_table(shape)
    rings = [np.arange(extent, dtype=np.int32) % 2 for extent in shape]
    for ring in rings:
        ring[-1] += 2 * (ring.size % 2)  # between a one and a zero
    n_colours = 2 + any(extent % 2 for extent in shape)
    total = sum(np.ix_(*rings), np.zeros(shape, dtype=np.int32))
    return (total % n_colours).ravel()  # a step along any axis changes one summand, modulo n_colours too
