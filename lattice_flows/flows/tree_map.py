"""The map of a region tree's fluxes: compiled with hand-written gradients, and in torch for other devices."""

import math
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lattice_flows.flows.tree import RegionTree
from lattice_flows.kernels import tree_u1
from lattice_flows.lattice import CIRCLE


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


# The same in torch, one level of the tree at a time: for CUDA, and what the kernels are tested against.


def torch_forward(shares: Tensor, tables: TreeTables, tree: RegionTree) -> tuple[Tensor, Tensor]:
    """As tree_forward, on any device, differentiable as often as wanted."""
    n = shares.shape[0]
    flux = shares.new_zeros(n, 1)  # of the level's regions
    pieces = []  # halves of all levels, (B, 2 * regions)
    log_det = shares.new_zeros(n)
    for level in tree.levels:
        spline = _Splines(flux, tables, tree, level)
        u = CIRCLE.wrap(shares[:, level] - 0.5 * flux)
        image, log_slope = spline.forward(u)
        halves = torch.stack([0.5 * flux + image, 0.5 * flux - image], -1)  # (B, regions, 2)
        pieces.append(CIRCLE.wrap(halves))
        log_det = log_det + log_slope.sum(1)
        regions = torch.from_numpy(tree.nodes[level, 1:] >= 0).to(shares.device)
        flux = pieces[-1][:, regions]
    everything = torch.cat([half.flatten(1) for half in pieces], 1)  # (B, 2 (V - 1))
    return everything[:, _places_of_leaves(tree, shares.device)], log_det


def torch_inverse(plaquettes: Tensor, tables: TreeTables, tree: RegionTree) -> tuple[Tensor, Tensor]:
    """As tree_inverse, on any device, differentiable as often as wanted."""
    shares, log_det = [], plaquettes.new_zeros(plaquettes.shape[0])
    sums = torch.nn.functional.pad(plaquettes.cumsum(1), (1, 0))  # (B, V + 1)
    for depth, level in enumerate(tree.levels):
        lo, mid, hi = _ends(tree, level)
        first = sums[:, mid] - sums[:, lo]
        flux = CIRCLE.wrap(sums[:, hi] - sums[:, lo]) if depth else torch.zeros_like(first)
        u, log_slope = _Splines(flux, tables, tree, level).inverse(CIRCLE.wrap(first - 0.5 * flux))
        shares.append(CIRCLE.wrap(u + 0.5 * flux))
        log_det = log_det + log_slope.sum(1)
    return torch.cat(shares, 1), log_det


class _Splines:
    """The splines of one level's regions at their fluxes: ends of bins and slopes (B, regions, 3, n_bins + 1)."""

    def __init__(self, flux: Tensor, tables: TreeTables, tree: RegionTree, level: slice) -> None:
        which = tree.nodes[level, 0]
        self.odd = torch.tensor([tables.odd[w] for w in which], device=flux.device)
        self.side = torch.where(flux < 0, -1.0, 1.0).to(flux.dtype)
        n_knots = tables.splines.shape[1]
        position = flux.abs() * ((n_knots - 1) / math.pi)
        row = position.detach().long().clamp_max(n_knots - 2)
        of_region = torch.from_numpy(which).long().to(flux.device).expand_as(row)
        low, high = tables.splines[of_region, row], tables.splines[of_region, row + 1]
        self.numbers = low + (position - row)[..., None, None] * (high - low)

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
        return torch.where(self.odd, torch.where(u < 0, -1.0, 1.0).to(u.dtype), self.side)

    def _bin(self, x: Tensor, which: int) -> tuple[tuple[Tensor, Tensor], ...]:
        """The lower and upper end in x and in y, and the slopes there."""
        inner = self.numbers[..., which, 1:-1].detach()
        k = (x.detach()[..., None] >= inner).sum(-1, keepdim=True)  # (B, regions, 1)
        k = k[..., None].expand(*k.shape[:-1], 3, 1)
        low, high = self.numbers.gather(-1, k).squeeze(-1), self.numbers.gather(-1, k + 1).squeeze(-1)
        return tuple(zip(low.unbind(-1), high.unbind(-1)))


def _image(xi: Tensor, width: Tensor, y0: Tensor, height: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """arXiv:1906.04032 eq. (4)."""
    s, m = height / width, xi * (1.0 - xi)
    return y0 + height * (s * xi * xi + d0 * m) / (s + (d0 + d1 - 2.0 * s) * m)


def _log_slope(xi: Tensor, width: Tensor, height: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """arXiv:1906.04032 eq. (5)."""
    s, m = height / width, xi * (1.0 - xi)
    denominator = s + (d0 + d1 - 2.0 * s) * m
    return torch.log(s * s * (d1 * xi * xi + 2.0 * s * m + d0 * (1.0 - xi) ** 2) / (denominator * denominator))


def _ends(tree: RegionTree, level: slice) -> tuple[Tensor, Tensor, Tensor]:
    """lo, mid and hi of the level's regions."""
    areas = np.array([sum(split.areas) for split in tree.splits])
    lo, mid = tree.lo[level], tree.mid[level]
    return torch.from_numpy(lo), torch.from_numpy(mid), torch.from_numpy(lo + areas[tree.nodes[level, 0]])


def _places_of_leaves(tree: RegionTree, device: torch.device) -> Tensor:
    """Where the plaquettes stand among the halves of all nodes, (V,)."""
    halves = tree.nodes[:, 1:].ravel()
    places = np.empty(tree.leaves.size, np.int64)
    places[-1 - halves[halves < 0]] = np.flatnonzero(halves < 0)
    return torch.from_numpy(places).to(device)
