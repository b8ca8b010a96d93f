"""Gauge-equivariant coupling layers of 2D U(1) links, and the flow made of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, cast

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
        rows = self._plaquette_rows(links)
        changes = [torch.zeros_like(row) for row in rows]
        log_derivatives = torch.zeros_like(rows[0])
        for layer in layers:
            offset = self.offsets[layer]
            passive, active, f1, f2 = (_row(rows, offset + step) for step in (-1, 0, 1, 2))
            context = cast(LoopContext, self.contexts[layer])
            moved, log_derivative = move(active, context.forward(active + passive, f1, f2))
            change = moved - active
            rows[offset] = moved
            rows[offset - 1] = rows[offset - 1] - (change if offset else change.roll(-1, 2))
            changes[offset] = changes[offset] + change
            log_derivatives = log_derivatives + log_derivative
        return self._move(links, torch.stack(changes, -1).flatten(2)), log_derivatives.flatten(1).sum(1)

    def _plaquette_rows(self, links: Tensor) -> list[Tensor]:
        """P_munu of links (B, 2, L0, L1) for n_nu = 0, 1, 2, 3 (mod 4), each (B, L_mu, cells)."""
        along, across = links[:, self.mu], links[:, 1 - self.mu]
        if self.mu == 1:
            along, across = along.transpose(1, 2), across.transpose(1, 2)
        plaquettes = along - along.roll(-1, 2) + across.roll(-1, 1) - across  # (B, L_mu, L_nu)
        return list(plaquettes.unflatten(2, (-1, _PERIOD)).movedim(-1, 0).contiguous().unbind(0))

    def _move(self, links: Tensor, change: Tensor) -> Tensor:
        """The field whose links along mu are changed by (B, L_mu, L_nu)."""
        directions = list(links.unbind(1))
        directions[self.mu] = directions[self.mu] + (change if self.mu == 0 else change.transpose(1, 2))
        return torch.stack(directions, 1)


def _row(rows: list[Tensor], index: int) -> Tensor:
    """Row `index` counted from a cell's first, also outside of the cell: then that of its neighbour."""
    cell, row = divmod(index, _PERIOD)
    return rows[row].roll(-cell, 2) if cell else rows[row]


def plaquette_coupling(
    shape: tuple[int, int],
    *,
    n_layers: int = 16,
    transform: Literal["projection", "spline"] = "spline",
    n_components: int = 3,
    n_bins: int = 8,
    hidden: tuple[int, ...] = (32,),
    kernel: int = 3,
) -> Flow:
    """The flow of `n_layers` plaquette couplings from Haar-random links to a 2D U(1) theory.

    Eight layers move every link once. `n_components` belongs to the projection, `n_bins` to the spline; `hidden` are
    the widths of the context networks, whose weights do not depend on the shape. The weights are drawn from a
    generator of seed 0: call `initialise` for others.

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
