"""The map of a region tree's fluxes: compiled with hand-written gradients, and in torch for other devices."""

import math
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lattice_flows.flows.tree import RegionTree, tree_of
from lattice_flows.lattice import CIRCLE
from lattice_flows.theories.u1.kernels import tree as tree_u1


class TreeTables(NamedTuple):
    """Splines of every split at equally spaced |s|: (n_splits, n_knots, 3, n_bins + 1), see kernels/tree_u1.py.

    `odd` (n_splits,) says which are maps of |u|, the others are maps of sign(s) u.
    """

    splines: Tensor
    odd: tuple[bool, ...]


def tree_forward(shares: Tensor, tables: TreeTables, tree: RegionTree) -> tuple[Tensor, Tensor]:
    """Plaquettes (B, V) in the tree's order and log_det (B,) of latent shares (B, V - 1), float64."""
    if shares.device.type == "cpu":
        plaquettes, log_det, _ = cast(
            "tuple[Tensor, Tensor, Tensor]",
            _Forward.apply(shares, tables.splines, np.array(tables.odd), tree.nodes),
        )
        return plaquettes, log_det
    return torch_forward(shares, tables, tree)


def tree_slopes(shares: Tensor, tables: TreeTables, tree: RegionTree) -> tuple[Tensor, Tensor]:
    """tree_forward with log df/du of every region, (B, V - 1), in the place of their sum; not differentiable."""
    if shares.device.type == "cpu":
        arrays = tree_u1.forward(_array(shares), _array(tables.splines), np.array(tables.odd), tree.nodes)
        return torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])
    plaquettes, log_slopes = torch_levels(shares, tables, tree)
    return plaquettes, torch.cat(log_slopes, 1)


def tree_inverse(plaquettes: Tensor, tables: TreeTables, tree: RegionTree) -> tuple[Tensor, Tensor]:
    """Latent shares (B, V - 1) and log_det (B,) of plaquettes (B, V) in the tree's order."""
    if plaquettes.device.type == "cpu":
        return cast(
            "tuple[Tensor, Tensor]", _Inverse.apply(plaquettes, tables.splines, np.array(tables.odd), tree.nodes)
        )
    return torch_inverse(plaquettes, tables, tree)


def tree_score(shares: Tensor, tables: TreeTables, tree: RegionTree) -> tuple[Tensor, Tensor, Tensor]:
    """tree_forward, and d log q / d plaquettes (B, V) of the image of uniform shares, detached."""
    if shares.device.type != "cpu":
        end, log_det = torch_forward(shares, tables, tree)
        with torch.enable_grad():
            at = end.detach().requires_grad_(True)
            (score,) = torch.autograd.grad(torch_inverse(at, tables, tree)[1].sum(), at)
        return end, log_det, score
    arguments = shares, tables.splines, np.array(tables.odd), tree.nodes
    plaquettes, log_det, fluxes = cast("tuple[Tensor, Tensor, Tensor]", _Forward.apply(*arguments))
    ones = np.ones(len(shares))
    known = map(_array, (shares, fluxes, tables.splines))
    score, _ = tree_u1.inverse_gradient(*known, *arguments[2:], np.zeros(shares.shape), ones, False)
    return plaquettes, log_det, torch.from_numpy(score)


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shares: Tensor, splines: Tensor, odd: Any, nodes: Any) -> tuple[Tensor, Tensor, Tensor]:
        ctx.odd, ctx.nodes = odd, nodes
        arrays = tree_u1.forward(_array(shares), _array(splines), odd, nodes)
        plaquettes, log_slopes, fluxes = map(torch.from_numpy, arrays)
        ctx.save_for_backward(shares, splines, fluxes)
        ctx.mark_non_differentiable(fluxes)
        return plaquettes, log_slopes.sum(1), fluxes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_plaquettes: Tensor, g_log_det: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        gradients = _gradients(ctx, tree_u1.forward_gradient, g_plaquettes, g_log_det)
        return *gradients, None, None


class _Inverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plaquettes: Tensor, splines: Tensor, odd: Any, nodes: Any) -> tuple[Tensor, Tensor]:
        ctx.odd, ctx.nodes = odd, nodes
        shares, log_det, fluxes = map(
            torch.from_numpy, tree_u1.inverse(_array(plaquettes), _array(splines), odd, nodes)
        )
        ctx.save_for_backward(shares, splines, fluxes)
        return shares, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_shares: Tensor, g_log_det: Tensor) -> tuple[Tensor | None, ...]:
        gradients = _gradients(ctx, tree_u1.inverse_gradient, g_shares, g_log_det)
        return *gradients, None, None


def _gradients(ctx: Any, kernel: Any, g_angles: Tensor, g_log_det: Tensor) -> tuple[Tensor, Tensor | None]:
    shares, splines, fluxes = ctx.saved_tensors
    wanted = ctx.needs_input_grad[1]
    arrays = map(_array, (shares, fluxes, splines))
    angles, parts = kernel(*arrays, ctx.odd, ctx.nodes, _array(g_angles), _array(g_log_det), wanted)
    return torch.from_numpy(angles), torch.from_numpy(parts).sum(0) if wanted else None


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


# The same in torch: for CUDA, and what the kernels are tested against. It takes the memory of some dozen numbers per
# region, and no more with finer tables.


class Places(NamedTuple):
    """Index tensors of a tree on one device; V - 1 regions, V plaquettes."""

    table: Tensor  # (V - 1,) the split
    odd: Tensor  # (V - 1,) whether its map is odd
    lo: Tensor  # (V - 1,)
    mid: Tensor  # (V - 1,)
    hi: Tensor  # (V - 1,)
    regions: tuple[Tensor, ...]  # of each level, which of its halves, in pairs, are regions of the next
    leaves: Tensor  # (V,) of the plaquettes, among the halves of all regions


class Regions(NamedTuple):
    """The latent shares of all regions, log d share / d (flux of the first half), and their fluxes, (B, V - 1) each."""

    shares: Tensor
    log_slopes: Tensor
    fluxes: Tensor


@lru_cache(maxsize=64)
def places_of(shape: tuple[int, int], odd: tuple[bool, ...], device: torch.device) -> Places:
    """The index tensors of a tree, made once: copies from the host would hold up the device at each call."""

    def there(array: Any) -> Tensor:
        return torch.from_numpy(array).to(device)

    tree = tree_of(shape)
    split, halves = tree.nodes[:, 0], tree.nodes[:, 1:].ravel()
    areas = np.array([sum(split.areas) for split in tree.splits])
    leaves = np.empty(tree.leaves.size, np.int64)
    leaves[-1 - halves[halves < 0]] = np.flatnonzero(halves < 0)
    return Places(
        table=there(split.astype(np.int64)),
        odd=there(np.array(odd)[split]),
        lo=there(tree.lo),
        mid=there(tree.mid),
        hi=there(tree.lo + areas[split]),
        regions=tuple(there(np.flatnonzero(tree.nodes[level, 1:].ravel() >= 0)) for level in tree.levels),
        leaves=there(leaves),
    )


def torch_forward(shares: Tensor, tables: TreeTables, tree: RegionTree) -> tuple[Tensor, Tensor]:
    """The same as tree_forward, on any device and differentiable to any order; one level of the tree at a time."""
    plaquettes, log_slopes = torch_levels(shares, tables, tree)
    log_det = shares.new_zeros(shares.shape[0])
    for level in log_slopes:
        log_det = log_det + level.sum(1)
    return plaquettes, log_det


def torch_levels(shares: Tensor, tables: TreeTables, tree: RegionTree) -> tuple[Tensor, list[Tensor]]:
    """torch_forward with log df/du of every region, (B, regions) for each level, in the place of their sum."""
    places = places_of(tree.shape, tables.odd, shares.device)
    flux = shares.new_zeros(shares.shape[0], 1)  # of the level's regions
    pieces, log_slopes = [], []  # halves of all levels, (B, 2 * regions)
    for level, regions in zip(tree.levels, places.regions):
        spline = _Splines(flux, tables.splines, places.table[level], places.odd[level])
        image, log_slope = spline.forward(CIRCLE.wrap(shares[:, level] - 0.5 * flux))
        halves = torch.stack([0.5 * flux + image, 0.5 * flux - image], -1)  # (B, regions, 2)
        pieces.append(CIRCLE.wrap(halves).flatten(1))
        log_slopes.append(log_slope)
        flux = pieces[-1].index_select(1, regions)
    return torch.cat(pieces, 1).index_select(1, places.leaves), log_slopes


def torch_inverse(plaquettes: Tensor, tables: TreeTables, tree: RegionTree) -> tuple[Tensor, Tensor]:
    """The same as tree_inverse, on any device and differentiable to any order."""
    regions = torch_regions(plaquettes, tables, tree)
    return regions.shares, regions.log_slopes.sum(1)


def torch_regions(plaquettes: Tensor, tables: TreeTables, tree: RegionTree) -> Regions:
    """The regions of plaquettes (B, V) in the tree's order, all of them at once."""
    places = places_of(tree.shape, tables.odd, plaquettes.device)
    sums = torch.nn.functional.pad(plaquettes.cumsum(1), (1, 0))  # (B, V + 1)
    low = sums[:, places.lo]
    first, flux = sums[:, places.mid] - low, CIRCLE.wrap(sums[:, places.hi] - low)
    flux = torch.cat([torch.zeros_like(flux[:, :1]), flux[:, 1:]], 1)  # none goes through the torus
    spline = _Splines(flux, tables.splines, places.table, places.odd)
    u, log_slopes = spline.inverse(CIRCLE.wrap(first - 0.5 * flux))
    return Regions(CIRCLE.wrap(u + 0.5 * flux), log_slopes, flux)


class _Splines:
    """The splines of regions (R,) with the tables `table` at their fluxes (B, R), each between two rows of its table.

    Only the numbers that are needed are taken from the tables: bins are found by bisection.
    """

    def __init__(self, flux: Tensor, splines: Tensor, table: Tensor, odd: Tensor) -> None:
        _, n_knots, _, self.n_ends = splines.shape
        position = flux.abs() * ((n_knots - 1) / math.pi)
        row = position.detach().long().clamp(0, n_knots - 2)
        self.flux, self.odd, self.numbers = flux, odd, splines.flatten()
        self.fraction = position - row
        self.start = (table * n_knots + row) * (3 * self.n_ends)  # of the lower row, (B, R)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        sign = self._sign(u)
        (x0, x1), (y0, y1), (d0, d1) = self._bin(sign * u, 0)
        xi = (sign * u - x0) / (x1 - x0)
        return sign * _image(xi, x1 - x0, y0, y1 - y0, d0, d1), _log_slope(xi, x1 - x0, y1 - y0, d0, d1)

    def inverse(self, image: Tensor) -> tuple[Tensor, Tensor]:
        sign = self._sign(image)
        (x0, x1), (y0, y1), (d0, d1) = self._bin(sign * image, 1)
        s = (y1 - y0) / (x1 - x0)
        eta = (sign * image - y0) / (y1 - y0)
        curvature = eta * (d0 + d1 - 2.0 * s)
        a, b, c = s - d0 + curvature, d0 - curvature, -s * eta
        xi = -2.0 * c / (b + torch.sqrt((b * b - 4.0 * a * c).clamp_min(0.0)))
        return sign * (x0 + xi * (x1 - x0)), -_log_slope(xi, x1 - x0, y1 - y0, d0, d1)

    def _sign(self, u: Tensor) -> Tensor:
        return 1.0 - 2.0 * (torch.where(self.odd, u, self.flux) < 0).to(u.dtype)

    def _at(self, which: int, k: Tensor) -> Tensor:
        """Number k of a row: the ends in u (0) or u' (1), or the slopes (2)."""
        lower = self.start + (which * self.n_ends + k)
        low, high = self.numbers[lower], self.numbers[lower + 3 * self.n_ends]
        return low + self.fraction * (high - low)

    def _bin(self, x: Tensor, which: int) -> tuple[tuple[Tensor, Tensor], ...]:
        """The lower and upper end in u and in u' of the bin that holds x, and the slopes there."""
        last = self.n_ends - 2
        k = torch.zeros_like(self.start)
        with torch.no_grad():
            for step in (2**power for power in reversed(range(last.bit_length()))):
                trial = (k + step).clamp_max(last)
                k = torch.where(x >= self._at(which, trial), trial, k)
        return tuple((self._at(kind, k), self._at(kind, k + 1)) for kind in range(3))


def _image(xi: Tensor, width: Tensor, y0: Tensor, height: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """arXiv:1906.04032 eq. (4)."""
    s, m = height / width, xi * (1.0 - xi)
    return y0 + height * (s * xi * xi + d0 * m) / (s + (d0 + d1 - 2.0 * s) * m)


def _log_slope(xi: Tensor, width: Tensor, height: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """arXiv:1906.04032 eq. (5)."""
    s, m = height / width, xi * (1.0 - xi)
    denominator = s + (d0 + d1 - 2.0 * s) * m
    return torch.log(s * s * (d1 * xi * xi + 2.0 * s * m + d0 * (1.0 - xi) ** 2) / (denominator * denominator))
