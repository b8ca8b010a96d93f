"""The region tree: every plaquette once, halves that are rectangles side by side, splits that lattices share."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lattice_flows.flows import Multiscale, multiscale
from lattice_flows.flows.tree import RegionTree, Split
from lattice_flows.lattice import plaquette
from lattice_flows.theories import WilsonU1

pytestmark = pytest.mark.quick

SHAPES = [(4, 4), (16, 16), (6, 4), (4, 6), (6, 10), (3, 5), (7, 7), (2, 9), (1, 2), (5, 1), (12, 20)]
EVERY = pytest.mark.parametrize("shape", SHAPES, ids=str)


def _ends(tree: RegionTree) -> NDArray[np.int64]:
    """lo, mid and hi of every region, (V - 1, 3); hi from the numbers of plaquettes in the halves."""
    second = np.array([split.areas[1] for split in tree.splits])[tree.nodes[:, 0]]
    return np.stack([tree.lo, tree.mid, tree.mid + second], 1)


def _rectangle(tree: RegionTree, sites: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows and columns of these sites; fails where they are not a full rectangle."""
    rows, columns = np.unravel_index(np.sort(sites), tree.shape)
    rows, columns = np.unique(rows), np.unique(columns)
    for side in (rows, columns):
        assert (np.diff(side) == 1).all()
    assert np.array_equal(np.sort(sites), np.add.outer(rows * tree.shape[1], columns).ravel())
    return rows, columns


@EVERY
def test_every_plaquette_stands_at_one_place(shape: tuple[int, int]) -> None:
    tree = RegionTree(shape)
    v = shape[0] * shape[1]
    np.testing.assert_array_equal(np.sort(tree.leaves), np.arange(v))
    halves = tree.nodes[:, 1:].ravel()
    np.testing.assert_array_equal(np.sort(-1 - halves[halves < 0]), np.arange(v))
    np.testing.assert_array_equal(np.sort(halves[halves >= 0]), np.arange(1, v - 1))  # all regions but the torus


@EVERY
def test_halves_part_their_region_and_are_the_regions_below(shape: tuple[int, int]) -> None:
    tree = RegionTree(shape)
    ends = _ends(tree)
    np.testing.assert_array_equal(ends[0, [0, 2]], [0, tree.leaves.size])
    for i, (lo, mid, hi) in enumerate(ends):
        assert lo < mid < hi
        for half, start, stop in zip(tree.nodes[i, 1:], (lo, mid), (mid, hi)):
            if half >= 0:
                assert half > i  # parents before children
                np.testing.assert_array_equal(ends[half, [0, 2]], [start, stop])
            else:
                assert (-1 - half, stop - start) == (start, 1)


@EVERY
def test_halves_are_rectangles_of_the_split_that_share_a_whole_side(shape: tuple[int, int]) -> None:
    tree = RegionTree(shape)
    for which, (lo, mid, hi) in zip(tree.nodes[:, 0], _ends(tree)):
        first, second = (_rectangle(tree, tree.leaves[ends]) for ends in (slice(lo, mid), slice(mid, hi)))
        shapes = [(rows.size, columns.size) for rows, columns in (first, second)]
        assert tree.splits[which] == Split(*shapes)
        across = 0 if np.array_equal(first[1], second[1]) else 1  # the axis that is cut
        assert np.array_equal(first[1 - across], second[1 - across])
        assert first[across][-1] + 1 == second[across][0]


@EVERY
def test_cuts_are_even_wherever_a_side_is(shape: tuple[int, int]) -> None:
    """And the longest even side is cut; of odd sides the longest, one off the middle."""
    for split in RegionTree(shape).splits:
        (a, b), (c, d) = split.first, split.second
        whole = (a + c, b) if b == d else (a, b + d)
        assert split.equal == (whole[0] % 2 == 0 or whole[1] % 2 == 0)
        cut = a + c if b == d else b + d
        assert cut == max([side for side in whole if side % 2 == 0] or whole)
        if not split.equal:
            assert abs(a - c) + abs(b - d) == 1
            assert split.areas[0] < split.areas[1]


@EVERY
def test_levels_are_the_depths(shape: tuple[int, int]) -> None:
    tree = RegionTree(shape)
    depth = np.zeros(len(tree.nodes), int)
    for i, halves in enumerate(tree.nodes[:, 1:]):
        depth[halves[halves >= 0]] = depth[i] + 1
    np.testing.assert_array_equal(
        np.concatenate([np.arange(len(depth))[level] for level in tree.levels]), range(len(depth))
    )
    for number, level in enumerate(tree.levels):
        assert (depth[level] == number).all()


def test_a_square_of_a_power_of_two_has_one_split_per_level() -> None:
    tree = RegionTree((8, 8))
    names = ["4x8_4x8", "4x4_4x4", "2x4_2x4", "2x2_2x2", "1x2_1x2", "1x1_1x1"]
    assert [split.name for split in tree.splits] == names
    assert all(split.equal for split in tree.splits)
    for number, level in enumerate(tree.levels):
        assert (tree.nodes[level, 0] == number).all()


def test_splits_are_named_by_shapes_that_lattices_share() -> None:
    """What a larger lattice has of a smaller one goes by the same name, and no two splits have one name."""
    trees = {shape: RegionTree(shape) for shape in SHAPES}
    names = {shape: {split.name for split in tree.splits} for shape, tree in trees.items()}
    for shape, tree in trees.items():
        assert len(names[shape]) == len(tree.splits)
    assert names[4, 4] < {split.name for split in RegionTree((8, 8)).splits} < names[16, 16]
    flows = [multiscale(shape, WilsonU1(2.0)) for shape in ((4, 4), (16, 16))]
    small, large = ({name: w.shape for name, w in flow.named_parameters()} for flow in flows)
    assert small.items() < large.items()


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if min(shape) > 1], ids=str)
def test_shares_and_plaquettes_are_one_another_s_inverse(shape: tuple[int, int], generator: torch.Generator) -> None:
    """The flux of a region's first half, added up over its sites, is the share that the transform reads."""
    transform = multiscale(shape, WilsonU1(1.0)).transform
    assert isinstance(transform, Multiscale)
    links = 3.0 * torch.randn(3, 2, *shape, generator=generator, dtype=torch.float64)
    field = plaquette(links, 0, 1)
    leaves = transform.leaves_of(field)
    torch.testing.assert_close(transform.field(leaves), field, atol=0, rtol=0)
    shares = transform.shares_of(leaves)
    for i, (lo, mid, _) in enumerate(_ends(transform.tree)):
        flux = field.flatten(1)[:, transform.tree.leaves[lo:mid]].sum(1)
        torch.testing.assert_close(torch.sin(0.5 * (flux - shares[:, i])), torch.zeros(3).double(), atol=1e-12, rtol=0)
    turns = (transform._plaquettes(shares) - leaves) / (2.0 * torch.pi)
    torch.testing.assert_close(turns, turns.round(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", [(4,), (4, 4, 4), (1, 1), (0, 4), ()], ids=str)
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two sides and two plaquettes or more; got " + " x ".join(map(str, shape))):
        RegionTree(shape)  # type: ignore[arg-type]
