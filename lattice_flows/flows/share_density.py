"""Splines that draw the share of a region, made from its density."""

import math

import torch
from torch import Tensor
from torch.nn import functional

_FLOOR = 1e-8  # of the uniform density: keeps the spline's slopes below its inverse
_CONCENTRATION = 0.7  # of the knots, where the density is; the others are spread evenly
_CELL = (-1.0 / 24.0, 13.0 / 24.0, 13.0 / 24.0, -1.0 / 24.0)  # integral between the two middle ones of four points


def pair_log_density(first: Tensor, second: Tensor, n_knots: int, circular: bool) -> Tensor:
    """E1(s/2 + u) + E2(s/2 - u), (n, n_knots, points), from even functions E1, E2 at pi i / N, i = 0 ... N, (n, N + 1).

    s takes n_knots equally spaced values from 0 to pi, u the grid's points from 0, or from -pi where circular, to pi.
    N is a multiple of 2 (n_knots - 1), so that every argument falls on the grid.
    """
    n = first.shape[-1] - 1
    u = torch.arange(-n if circular else 0, n + 1, device=first.device)
    half = torch.arange(n_knots, device=first.device)[:, None] * (n // (2 * (n_knots - 1)))
    return first[:, _folded(half + u, n)] + second[:, _folded(half - u, n)]


def _folded(i: Tensor, n: int) -> Tensor:
    """The grid index, 0 to n, at which an even, periodic function of the angle pi i / n is found."""
    i = i.abs()
    return torch.where(i > n, 2 * n - i, i)


def splines_of_density(log_p: Tensor, n_bins: int, circular: bool) -> Tensor:
    """Splines (n, n_knots, 3, n_bins + 1) that map the uniform density to exp(log_p) (n, n_knots, points), normalised.

    The points run from 0 to pi, where the density is even about both ends, or from -pi to pi where it is `circular`.
    The bins end at grid points, close to equal quantiles of a mixture of p^(1/3) and a constant, which weights the
    splines' error evenly. Their own log_det is exact whatever the error of the quadrature.
    """
    points = log_p.shape[-1]
    start, length = (-math.pi, 2.0 * math.pi) if circular else (0.0, math.pi)
    step = length / (points - 1)
    p = torch.exp(log_p - log_p.detach().amax(-1, keepdim=True))
    padded = functional.pad(p, (1, 1), mode="circular" if circular else "reflect")
    if circular:  # both ends are one point
        padded = torch.cat([p[..., -2:-1], p, p[..., 1:2]], -1)
    cells = torch.stack([weight * padded[..., k : k + points - 1] for k, weight in enumerate(_CELL)]).sum(0) * step
    cells = cells.clamp_min(0.0)  # the rule can miss below zero where the density is narrower than the grid
    total = cells.sum(-1, keepdim=True)
    p = (1.0 - _FLOOR) * p / total + _FLOOR / length
    below = functional.pad(((1.0 - _FLOOR) * cells / total + _FLOOR * step / length).cumsum(-1), (1, 0))
    ends = _ends_of_bins(p.detach(), n_bins)
    x = start + length * below.gather(-1, ends) / below[..., -1:]
    y = start + step * ends.to(p.dtype)
    slope = 1.0 / (length * p.gather(-1, ends))
    return torch.stack([x, y, slope], -2)


def _ends_of_bins(p: Tensor, n_bins: int) -> Tensor:
    """Grid points (n, n_knots, n_bins + 1), all different, the first and the last one among them."""
    points = p.shape[-1]
    weight = p ** (1.0 / 3.0)
    between = 0.5 * (weight[..., 1:] + weight[..., :-1])
    density = _CONCENTRATION * between / between.sum(-1, keepdim=True) + (1.0 - _CONCENTRATION) / (points - 1)
    wanted = torch.linspace(0.0, 1.0, n_bins + 1, dtype=p.dtype, device=p.device).expand(*p.shape[:-1], -1)
    ends = torch.searchsorted(density.cumsum(-1), wanted.contiguous())
    count = torch.arange(n_bins + 1, device=p.device)
    ends = torch.minimum(ends, points - 1 - n_bins + count)
    ends = (ends - count).cummax(-1).values + count
    return torch.cat([torch.zeros_like(ends[..., :1]), ends[..., 1:-1], torch.full_like(ends[..., :1], points - 1)], -1)
