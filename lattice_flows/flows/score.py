"""The gradient of log q along a flow without its inverse.

`forward_with_score` carries d log q / dz, the score, through a transform while it maps z to x:

    score(x) = (dx/dz)^-T [score(z) - d log_det / dz],

the recursion of arXiv:2403.15881. Every transform can do it through its inverse; couplings, whose
Jacobians are triangular, do without.
"""

from functools import singledispatch
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.flows.plaquette_coupling import (
    PlaquetteCoupling,
    add_to_row,
    join_rows,
    row_of_cell,
    split_rows,
)
from lattice_flows.flows.transform import Chain, Transform


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
    """Layer by layer. With y(a) the active plaquettes' map and theta their links, the active scores become

        g' = (g - d log y' / da) / y',

    and every other score loses the derivative of log y' + g' y with respect to its link, which acts through plaquettes:
    `pulled` gathers these per row of plaquettes, and counts + in theta(n) and - in theta(n + nu), for each row.
    """
    z = z if z.requires_grad else z.detach().requires_grad_(True)
    rows = transform.plaquette_rows(z)
    along, across = transform.oriented(score)
    own = split_rows(along)  # the active scores, without what `pulled` adds to them
    changes, pulled = ([torch.zeros_like(row) for row in rows] for _ in range(2))
    log_derivatives = torch.zeros_like(rows[0])
    for layer, offset in enumerate(transform.offsets):
        cells = transform.couple(rows, layer, transform.circle.forward)
        (d_log,) = torch.autograd.grad(cells.log_derivative.sum(), cells.active, retain_graph=True)
        before = own[offset] + pulled[offset] - row_of_cell(pulled, offset - 1)
        after = (before - d_log) * torch.exp(-cells.log_derivative.detach())
        phi = (cells.log_derivative + after * cells.moved).sum()
        by_pair, by_f1, by_f2 = torch.autograd.grad(phi, (cells.pair, cells.f1, cells.f2), retain_graph=True)
        # At a fixed link the active angle itself adds d(log y' + g' y - g' a)/da = g - g'.
        for step, gradient in ((-1, by_pair), (0, by_pair + before - after), (1, by_f1), (2, by_f2)):
            add_to_row(pulled, offset + step, -gradient)
        own[offset] = after - pulled[offset] + row_of_cell(pulled, offset - 1)
        changes[offset] = changes[offset] + cells.moved - cells.active
        log_derivatives = log_derivatives + cells.log_derivative
    on_plaquettes = join_rows(pulled)
    along = join_rows(own) + on_plaquettes - on_plaquettes.roll(1, 2)
    across = across + on_plaquettes.roll(1, 1) - on_plaquettes
    x = transform.move_links(z, changes)
    return ScoredField(x, log_derivatives.flatten(1).sum(1), transform.unoriented(along, across))
