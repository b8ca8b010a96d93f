"""Gauge-equivariant coupling layers of 2D U(1) links, and the flow made of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from lattice_flows.flows.circle import CircleTransform
from lattice_flows.flows.context import LoopContext
from lattice_flows.flows.flow import Flow
from lattice_flows.flows.initialise import initialise
from lattice_flows.flows.prior import HaarU1
from lattice_flows.flows.projection import ProjectionMixture
from lattice_flows.flows.spline import CircularSpline
from lattice_flows.flows.transform import Chain, Transform

_PERIOD = 4  # rows along nu: passive, active, frozen, frozen
_OFFSETS = (0, 2, 1, 3)  # neighbouring layers move rows that share no plaquette

Move = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Cells(NamedTuple):
    """One layer at work, (B, L_mu, cells) each: its loops, the active plaquettes after it, log d moved / d active."""

    active: Tensor
    pair: Tensor
    f1: Tensor
    f2: Tensor
    moved: Tensor
    log_derivative: Tensor


class PlaquetteCoupling(Transform):
    """Layers of arXiv:2003.06413 in one direction: layer k moves the links theta_mu(n) with n_nu = offsets[k] (mod 4).

    nu is the other axis. Each of these links closes one active plaquette a = P_munu(n), which the circle transform
    moves, and enters the passive one at n - nu, which takes the opposite change: a + passive is invariant. The rows
    offset + 1 and offset + 2 are frozen. P_munu is oriented from mu to nu, so the active link enters a with the sign +
    for either mu. Only the (L_mu, L_nu / 4) cells are computed on, and the plaquettes once for all offsets.
    `contexts` holds one network per offset.
    """

    def __init__(
        self, mu: int, offsets: Sequence[int], circle: CircleTransform, contexts: Sequence[LoopContext]
    ) -> None:
        super().__init__()
        self.mu, self.offsets, self.circle = mu, tuple(offsets), circle
        self.contexts = nn.ModuleList(contexts)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self._apply_layers(z, self.circle.forward, range(len(self.offsets)))

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._apply_layers(x, self.circle.inverse, reversed(range(len(self.offsets))))

    def _apply_layers(self, links: Tensor, move: Move, layers: Iterable[int]) -> tuple[Tensor, Tensor]:
        rows = self.plaquette_rows(links)
        changes = [torch.zeros_like(row) for row in rows]
        log_derivatives = torch.zeros_like(rows[0])
        for layer in layers:
            cells = self.couple(rows, layer, move)
            changes[self.offsets[layer]] = changes[self.offsets[layer]] + cells.moved - cells.active
            log_derivatives = log_derivatives + cells.log_derivative
        return self.move_links(links, changes), log_derivatives.flatten(1).sum(1)

    def couple(self, rows: list[Tensor], layer: int, move: Move) -> Cells:
        """Move the active plaquettes of one layer, and with them the passive ones; `rows` is updated.

        What is returned are nodes of autograd's graph that only this layer uses: its partial derivatives can be taken.
        """
        offset = self.offsets[layer]
        passive, active, f1, f2 = (row_of_cell(rows, offset + step) for step in (-1, 0, 1, 2))
        pair = active + passive
        active = active.view_as(active)
        moved, log_derivative = move(active, cast(LoopContext, self.contexts[layer]).forward(pair, f1, f2))
        rows[offset] = moved
        add_to_row(rows, offset - 1, active - moved)
        return Cells(active, pair, f1, f2, moved, log_derivative)

    def plaquette_rows(self, links: Tensor) -> list[Tensor]:
        """P_munu of links (B, 2, L0, L1) for n_nu = 0, 1, 2, 3 (mod 4), each (B, L_mu, cells)."""
        along, across = self.oriented(links)
        return split_rows(along - along.roll(-1, 2) + across.roll(-1, 1) - across)

    def move_links(self, links: Tensor, changes: list[Tensor]) -> Tensor:
        """The field with the four rows of links along mu changed by (B, L_mu, cells) each."""
        along, across = self.oriented(links)
        return self.unoriented(along + join_rows(changes), across)

    def oriented(self, links: Tensor) -> tuple[Tensor, Tensor]:
        """The links along mu and along nu, each (B, L_mu, L_nu)."""
        along, across = links[:, self.mu], links[:, 1 - self.mu]
        return (along, across) if self.mu == 0 else (along.transpose(1, 2), across.transpose(1, 2))

    def unoriented(self, along: Tensor, across: Tensor) -> Tensor:
        """Back to links (B, 2, L0, L1)."""
        if self.mu == 0:
            return torch.stack([along, across], 1)
        return torch.stack([across.transpose(1, 2), along.transpose(1, 2)], 1)


def split_rows(field: Tensor) -> list[Tensor]:
    """(B, L_mu, L_nu) -> the rows n_nu = 0, 1, 2, 3 (mod 4), each a contiguous (B, L_mu, cells)."""
    return list(field.unflatten(2, (-1, _PERIOD)).movedim(-1, 0).contiguous().unbind(0))


def join_rows(rows: list[Tensor]) -> Tensor:
    """The inverse of split_rows."""
    return torch.stack(rows, -1).flatten(2)


def row_of_cell(rows: list[Tensor], index: int) -> Tensor:
    """Row `index` counted from each cell's first; outside 0 to 3 it is that of a neighbouring cell."""
    cell, row = divmod(index, _PERIOD)
    return rows[row].roll(-cell, 2) if cell else rows[row].view_as(rows[row])


def add_to_row(rows: list[Tensor], index: int, change: Tensor) -> None:
    """Add to the row that row_of_cell(rows, index) reads."""
    cell, row = divmod(index, _PERIOD)
    rows[row] = rows[row] + (change.roll(cell, 2) if cell else change)


def plaquette_coupling(
    shape: tuple[int, int],
    *,
    n_layers: int = 16,
    transform: Literal["projection", "spline"] = "projection",
    n_components: int = 4,
    n_bins: int = 8,
    hidden: tuple[int, ...] = (16,),
    kernel: int = 1,
) -> Flow:
    """The flow of `n_layers` plaquette couplings from Haar-random links to a 2D U(1) theory.

    Eight layers move every link once. `n_components` belongs to the projection, `n_bins` to the spline; `hidden` are
    the widths of the context networks, whose weights do not depend on the shape, and `kernel` is how many cells wide
    they look (1: a cell and the one below; more did not pay at 8 x 8). The projection is smooth and trains faster.
    The weights are drawn from a generator of seed 0: call `initialise` for others.

    Raises ValueError for a shape whose sides are not multiples of 4, and for values out of range.
    """
    _check(shape, n_layers, hidden, kernel)
    circle = _circle(transform, n_components, n_bins)
    sweeps: list[Transform] = []
    for start in range(0, n_layers, _PERIOD):
        offsets = _OFFSETS[: n_layers - start]
        contexts = [LoopContext(circle, tuple(hidden), kernel) for _ in offsets]
        sweeps.append(PlaquetteCoupling(len(sweeps) % 2, offsets, circle, contexts))
    flow = Flow(HaarU1((2, *shape)), Chain(*sweeps))
    initialise(flow, torch.Generator().manual_seed(0))
    return flow


def _circle(transform: str, n_components: int, n_bins: int) -> CircleTransform:
    if transform == "projection":
        return ProjectionMixture(n_components)
    if transform == "spline":
        return CircularSpline(n_bins)
    raise ValueError(f'transform must be "projection" or "spline", got {transform!r}')


def _check(shape: tuple[int, int], n_layers: int, hidden: tuple[int, ...], kernel: int) -> None:
    if len(shape) != 2 or any(side < _PERIOD or side % _PERIOD for side in shape):
        raise ValueError(f"plaquette_coupling needs two sides that are multiples of 4, as 8 x 12; got {_text(shape)}")
    if n_layers < 1:
        raise ValueError(f"n_layers must be at least 1, got {n_layers}")
    if any(width < 1 for width in hidden):
        raise ValueError(f"hidden must be a list of widths >= 1, got {list(hidden)}")
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel must be odd and positive, got {kernel}")


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)
