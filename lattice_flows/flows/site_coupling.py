"""Couplings of fields with a number at each site: some sites move, given the sites around them that do not."""

import itertools
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lattice_flows.flows.circle_transform import CircleTransform
from lattice_flows.flows.line_transform import LineTransform
from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.transform import Transform
from lattice_flows.lattice import REAL, Space

Mask = NDArray[np.bool_]
Move = Callable[..., tuple[Tensor, Tensor]]
"""A map of active variables (n_active, B), given its parameters."""


class Context(Protocol):
    """A network that sees frozen sites."""

    def forward(self, near: Tensor) -> tuple[Tensor, ...]:
        """near (n_neighbours, n_active or 1, B) -> the map's parameters: of a line even (n_even, n_active, B) and odd
        (n_odd, n_active, B), of a circle (n_active, B, n_parameters) alone."""


def move_active(move: Move, context: Context, active: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """All the arithmetic of a layer: the moved sites and the log of their derivative, (n_active, B) each."""
    return move(active, *context.forward(near))


class SiteCoupling(Transform):
    """x = y(z; parameters) at the active sites, whose parameters the context computes from frozen sites around them.

    `active` (n_active,) are sites, counted in C order, and `neighbours` (n_neighbours, n_active) the frozen sites that
    the context, a module, sees from each of them: see `stencil`; (n_neighbours, 1) if all see the same. Lattices of any
    dimension, also a vector without one. `line` is the map of one variable, which lives in `space`.
    """

    active: Tensor
    neighbours: Tensor

    def __init__(
        self,
        active: Tensor,
        neighbours: Tensor,
        line: LineTransform | CircleTransform,
        context: Context,
        space: Space = REAL,
    ) -> None:
        super().__init__()
        self.domain = self.codomain = space
        self.register_buffer("active", active, persistent=False)
        self.register_buffer("neighbours", neighbours, persistent=False)
        self.line, self.context = line, context
        self.move_active = move_active

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self._move(z, self.line.forward)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._move(x, self.line.inverse)

    def _move(self, field: Tensor, move: Move) -> tuple[Tensor, Tensor]:
        sites = by_site(field)
        moved, log_slope = self.move_active(move, self.context, sites[self.active], self.near(sites))
        return as_field(sites.index_copy(0, self.active, moved), field), log_slope.sum(0)

    def near(self, sites: Tensor) -> Tensor:
        """The frozen neighbours (n_neighbours, n_active or 1, B) of sites (V, B)."""
        return sites.index_select(0, self.neighbours.flatten()).unflatten(0, self.neighbours.shape)


class SiteMap(Transform):
    """One line transform at every site, with learnt even parameters; odd ones are 0: it commutes with phi -> -phi."""

    domain = codomain = REAL

    def __init__(self, line: LineTransform) -> None:
        super().__init__()
        self.line = line
        self.even = nn.Parameter(torch.zeros(line.n_even))

    def initialise(self, generator: torch.Generator) -> None:
        """Reset the map to the identity."""
        nn.init.zeros_(self.even)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        x, log_slope = self.line.forward(z, *self.parameters_at(z))
        return x, log_slope.flatten(1).sum(1)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_slope = self.line.inverse(x, *self.parameters_at(x))
        return z, log_slope.flatten(1).sum(1)

    def parameters_at(self, field: Tensor) -> tuple[Tensor, Tensor]:
        """The parameters of every site of `field`: even (n_even, 1, ...) and odd (n_odd, 1, ...)."""
        ones = [1] * field.ndim
        return self.even.to(field.dtype).reshape(-1, *ones), field.new_zeros(self.line.n_odd, *ones)


@forward_with_score.register
def _(transform: SiteCoupling, z: Tensor, score: Tensor) -> ScoredField:
    """The score after a coupling: with y(a) the map of an active site, the active scores become
    g' = (g - d log y'/da) / y', and every frozen one loses the derivative of log y' + g' y with respect to its site,
    which acts through the context.
    """
    sites, scores = by_site(z if z.requires_grad else z.detach().requires_grad_(True)), by_site(score)
    active, near = sites[transform.active], transform.near(sites)
    moved, log_slope = transform.move_active(transform.line.forward, transform.context, active, near)
    (d_log,) = torch.autograd.grad(log_slope.sum(), active, retain_graph=True, materialize_grads=True)
    after = (scores[transform.active] - d_log) * torch.exp(-log_slope.detach())
    (by_near,) = torch.autograd.grad((log_slope + after * moved).sum(), near, retain_graph=True)
    scores = scores.index_add(0, transform.neighbours.flatten(), by_near.flatten(0, 1), alpha=-1)
    scores = scores.index_copy(0, transform.active, after)
    x = as_field(sites.index_copy(0, transform.active, moved), z)
    return ScoredField(x, log_slope.sum(0), as_field(scores, z))


@forward_with_score.register
def _(transform: SiteMap, z: Tensor, score: Tensor) -> ScoredField:
    return score_of_sites(lambda node: transform.line.forward(node, *transform.parameters_at(node)), z, score)


def score_of_sites(move: Callable[[Tensor], tuple[Tensor, Tensor]], z: Tensor, score: Tensor) -> ScoredField:
    """The score after a map of every site by itself: `move` gives the images and the log of their derivatives."""
    z = z if z.requires_grad else z.detach().requires_grad_(True)
    node = z.view_as(z)
    x, log_slope = move(node)
    (d_log,) = torch.autograd.grad(log_slope.sum(), node, retain_graph=True, materialize_grads=True)
    return ScoredField(x, log_slope.flatten(1).sum(1), (score - d_log) * torch.exp(-log_slope.detach()))


def stencil(active: Mask, frozen: Mask, reach: int) -> tuple[Tensor, Tensor]:
    """The active sites (n_active,), and the frozen sites within `reach` of each along every axis
    (n_neighbours, n_active); both masks have the lattice's shape. A place counts if it is frozen for all active sites.

    Raises ValueError where there is none.
    """
    columns = [column for _, column in frozen_places(active, frozen, reach)]
    if not columns:
        raise ValueError(f"no place within reach = {reach} is frozen for all active sites; take another mask")
    return torch.from_numpy(np.flatnonzero(active)), torch.from_numpy(np.stack(columns))


def frozen_places(
    active: Mask, frozen: Mask, reach: int, n_channel_axes: int = 0
) -> Iterator[tuple[tuple[int, ...], NDArray[np.int64]]]:
    """The places that are frozen beside all active variables: a channel and the steps along the lattice's axes, and the
    variable at each active one's, (n_active,), in C order. The first axes of the masks are channels."""
    shape, channels = active.shape, active.shape[:n_channel_axes]
    here = np.argwhere(active)[:, n_channel_axes:]  # (n_active, D)
    for channel in np.ndindex(channels):
        for offset in itertools.product(range(-reach, reach + 1), repeat=active.ndim - n_channel_axes):
            there = (*channel, *((here + offset) % shape[n_channel_axes:]).T)
            if frozen[there].all():
                yield (*channel, *offset), np.ravel_multi_index(np.broadcast_arrays(*there), shape)


def by_site(field: Tensor) -> Tensor:
    """(B, *lattice_shape) -> (V, B): rows of one site each are contiguous, and picking sites copies whole rows."""
    return field.flatten(1).t().contiguous()


def as_field(sites: Tensor, like: Tensor) -> Tensor:
    """The inverse of by_site, shaped like `like`."""
    return sites.t().reshape(like.shape)
