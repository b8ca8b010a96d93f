"""Region trees: the torus cut in two, and each part again, down to single plaquettes."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int]


@dataclass(frozen=True)
class Split:
    """The shapes of the halves into which a region is cut. Equal halves are mirror images of each other."""

    first: Shape
    second: Shape

    @property
    def equal(self) -> bool:
        """Whether the law of the first half's share is even about one half."""
        return self.first == self.second

    @property
    def name(self) -> str:
        """The name of the split, such as "4x8_4x8": the same on every lattice that has such a region."""
        return "_".join(f"{rows}x{columns}" for rows, columns in (self.first, self.second))

    @property
    def areas(self) -> tuple[int, int]:
        """The number of plaquettes in each half."""
        return self.first[0] * self.first[1], self.second[0] * self.second[1]


@dataclass(frozen=True)
class RegionTree:
    """Regions of a lattice of `shape`, largest first: V - 1 that are split, and the V plaquettes.

    The longest even side is cut in half; where no side is even, the longest one, unequally. Regions of one shape are
    translations of each other and share a `Split`. In the order of `leaves` (V,), site numbers, a region is the range
    lo to hi and its first half the range lo to mid. `nodes` (V - 1, 3): split, first and second half; a half is the
    number of a region, or -1 - k for the plaquette at place k of `leaves`.

    Raises ValueError for a shape that is not two sides of at least 1, or only one plaquette.
    """

    shape: Shape
    splits: tuple[Split, ...] = field(init=False)
    leaves: NDArray[np.int64] = field(init=False)
    lo: NDArray[np.int64] = field(init=False)
    mid: NDArray[np.int64] = field(init=False)
    nodes: NDArray[np.int32] = field(init=False)
    levels: tuple[slice, ...] = field(init=False)  # regions that are equally deep

    def __post_init__(self) -> None:
        check_tree_shape(self.shape)
        l0, l1 = self.shape
        splits: dict[Split, int] = {}
        leaves = np.empty(l0 * l1, np.int64)
        lo: list[int] = []
        mid: list[int] = []
        nodes: list[list[int]] = []
        levels: list[slice] = []
        level = [(np.arange(l0 * l1).reshape(l0, l1), 0)]  # sites of a region, and its place among the leaves
        while level:
            levels.append(slice(len(lo), len(lo) + len(level)))
            below: list[tuple[NDArray[np.int64], int]] = []
            for sites, start in level:
                first, second = _halves(sites)
                split = Split(_shape(first), _shape(second))
                node = [splits.setdefault(split, len(splits))]
                for half, place in ((first, start), (second, start + first.size)):
                    if half.size == 1:
                        leaves[place] = half[0, 0]
                        node.append(-1 - place)
                    else:
                        node.append(levels[-1].stop + len(below))
                        below.append((half, place))
                lo.append(start)
                mid.append(start + first.size)
                nodes.append(node)
            level = below
        arrays = {"lo": np.array(lo), "mid": np.array(mid), "nodes": np.array(nodes, np.int32), "leaves": leaves}
        for name, value in (*arrays.items(), ("splits", tuple(splits)), ("levels", tuple(levels))):
            object.__setattr__(self, name, value)


@lru_cache(maxsize=8)
def tree_of(shape: Shape) -> RegionTree:
    """The tree of this lattice, grown once: that of a large one takes seconds. Do not change its arrays."""
    return RegionTree(shape)


def check_tree_shape(shape: tuple[int, ...]) -> None:
    """Raises ValueError for a lattice that cannot be cut into regions."""
    if len(shape) != 2 or min(shape) < 1 or max(shape) < 2:
        text = " x ".join(str(side) for side in shape) or "no lattice"
        raise ValueError(f"multiscale needs a lattice of two sides and two plaquettes or more; got {text}")


def _halves(sites: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The halves of a cut across the longest even side, or the longest one; the first is never the larger."""
    axis = max((0, 1), key=lambda axis: (sites.shape[axis] % 2 == 0, sites.shape[axis]))
    first, second = np.split(sites, [sites.shape[axis] // 2], axis)
    return first, second


def _shape(sites: NDArray[np.int64]) -> Shape:
    return sites.shape[0], sites.shape[1]
