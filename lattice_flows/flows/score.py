"""The gradient of log q along a flow without its inverse.

`forward_with_score` carries d log q / dz, the score, through a transform while it maps z to x:

    score(x) = (dx/dz)^-T [score(z) - d log_det / dz],

the recursion of arXiv:2403.15881. Every transform can do this through its inverse; couplings, whose Jacobians are
triangular, do without it.
"""

from functools import singledispatch
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.flows.plaquette_coupling import PlaquetteCoupling, move_pair, sites_first
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.lattice import plaquette, plaquette_transpose


class ScoredField(NamedTuple):
    """x (B, *event) and log_det (B,), differentiable; the score d log q / dx at x, shaped like x and detached."""

    x: Tensor
    log_det: Tensor
    score: Tensor


@singledispatch
def forward_with_score(transform: Transform, z: Tensor, score: Tensor) -> ScoredField:
    """The image of z with its log_det and score, from the detached score at z. Needs enabled gradients."""
    x, log_det = transform.forward(z)
    end = x.detach().requires_grad_(True)
    back, inverse_log_det = transform.inverse(end)
    (moved,) = torch.autograd.grad((back * score).sum() + inverse_log_det.sum(), end)
    return ScoredField(x, log_det, moved)


@forward_with_score.register
def _(transform: Chain, z: Tensor, score: Tensor) -> ScoredField:
    total = z.new_zeros(z.shape[0])
    for part in transform.sequence():
        z, log_det, score = forward_with_score(part, z, score)
        total = total + log_det
    return ScoredField(z, total, score)


@forward_with_score.register
def _(transform: PlaquetteCoupling, z: Tensor, score: Tensor) -> ScoredField:
    """The score, layer by layer. What the layers add to it at z acts through plaquettes: `pulled` (V, B), derivatives
    with respect to P_01.

    With y(a; s, f) the active plaquettes' map, s = a + passive, g = d log q / da at fixed s becomes

        g' = (g - d log y' / da) / y',

    and s and the frozen f lose the derivatives of log y' + g' y with respect to them.
    """
    z = z if z.requires_grad else z.detach().requires_grad_(True)
    angles = sites_first(plaquette(z, 0, 1))
    pulled, changes = torch.zeros_like(angles), torch.zeros_like(angles)
    given = transform.orientation * sites_first(score[:, transform.mu])  # of the links that move
    log_det = z.new_zeros(z.shape[0])
    for layer in range(len(transform.offsets)):
        sites = transform.sites(layer, z)
        cells = transform.couple(angles, sites, layer, transform.circle.forward)
        (d_log,) = torch.autograd.grad(cells.log_derivative.sum(), cells.active, retain_graph=True)
        passive, own = pulled[sites.passive], given[sites.active]
        after = (own + pulled[sites.active] - passive - d_log) * torch.exp(-cells.log_derivative.detach())
        phi = (cells.log_derivative + after * cells.moved).sum()
        by_pair, by_frozen = torch.autograd.grad(phi, (cells.pair, cells.frozen), retain_graph=True)
        pulled = pulled.index_copy(0, sites.passive, passive - by_pair)
        pulled = pulled.index_copy(0, sites.active, passive - by_pair + after - own)
        pulled = pulled.index_add(0, sites.frozen, -by_frozen)
        angles = move_pair(angles, sites, cells)
        changes = changes.index_add(0, sites.active, cells.moved - cells.active)
        log_det = log_det + cells.log_derivative.sum(0)
    return ScoredField(
        transform.move_links(z, changes), log_det, score + plaquette_transpose(pulled.T.unflatten(1, z.shape[2:]))
    )
