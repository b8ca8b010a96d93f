"""Gauge-equivariant coupling layers of 2D U(1) links, and the flow made of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from lattice_flows.flows.circle_maps import CIRCLE_MAPS, CircleMap
from lattice_flows.flows.circle_transform import CircleTransform
from lattice_flows.flows.context import LoopContext
from lattice_flows.flows.flow import Flow
from lattice_flows.flows.map_catalogue import settle_options
from lattice_flows.flows.mask_pattern import OFFSETS, PATTERNS, PERIOD, CellSites, MaskPattern, cell_sites
from lattice_flows.flows.plan import MOST_LAYERS, FlowPlan, building, check_between, check_widths
from lattice_flows.flows.prior import HaarU1
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.lattice import CIRCLE, Space, plaquette

PatternName = Literal["checkerboard", "rows"]

_LAST_LAYER = 0.1  # initial size of the networks' last layers

Move = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Cells(NamedTuple):
    """The result of one layer: its loops (cells, B), the active plaquettes after it, and log d moved / d active."""

    active: Tensor
    pair: Tensor
    frozen: Tensor  # (n_frozen * cells, B)
    moved: Tensor
    log_derivative: Tensor


def move_active(
    move: Move, context: LoopContext, active: Tensor, pair: Tensor, frozen: Tensor
) -> tuple[Tensor, Tensor]:
    """All the arithmetic of a layer: the moved angles and the log of their derivative, (cells, B) each."""
    return move(active, context.forward(pair, frozen))


class PlaquetteCoupling(Transform):
    """Layers of arXiv:2003.06413 in one direction: layer k moves the theta_mu(n) that `pattern` selects at offsets[k].

    nu is the other axis. Each of these links closes one active plaquette a = P_munu(n), which the circle transform
    moves, and enters the passive one at n - nu, which takes the opposite change: a + passive is invariant. All other
    plaquettes are frozen or belong to other cells. Only the V / 4 cells are computed on, and the plaquettes once for
    all offsets, sites first: (V, B), a site's angles of all configurations side by side.
    `contexts` holds one network per offset.
    """

    domain = codomain = CIRCLE

    def __init__(
        self,
        mu: int,
        offsets: Sequence[int],
        pattern: MaskPattern,
        circle: CircleTransform,
        contexts: Sequence[LoopContext],
    ) -> None:
        super().__init__()
        self.mu, self.offsets, self.pattern, self.circle = mu, tuple(offsets), pattern, circle
        self.contexts = nn.ModuleList(contexts)
        self.move_active = move_active

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self._apply_layers(z, self.circle.forward, range(len(self.offsets)))

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._apply_layers(x, self.circle.inverse, reversed(range(len(self.offsets))))

    def _apply_layers(self, links: Tensor, move: Move, layers: Iterable[int]) -> tuple[Tensor, Tensor]:
        angles = sites_first(plaquette(links, 0, 1))
        changes = torch.zeros_like(angles)
        log_det = links.new_zeros(links.shape[0])
        for layer in layers:
            sites = self.sites(layer, links)
            cells = self.couple(angles, sites, layer, move)
            angles = move_pair(angles, sites, cells)
            changes = changes.index_add(0, sites.active, cells.moved - cells.active)
            log_det = log_det + cells.log_derivative.sum(0)
        return self.move_links(links, changes), log_det

    def sites(self, layer: int, links: Tensor) -> CellSites:
        """The places of a layer's plaquettes on the lattice of `links`."""
        shape = (links.shape[2], links.shape[3])
        return cell_sites(self.pattern, self.mu, self.offsets[layer], shape, links.device)

    def couple(self, angles: Tensor, sites: CellSites, layer: int, move: Move) -> Cells:
        """The layer applied to the angles (V, B) of all plaquettes, of which it moves the active ones.

        The returned tensors are nodes of autograd's graph that only this layer uses, so that its partial derivatives
        can be taken.
        """
        active, passive, frozen = angles[sites.active], angles[sites.passive], angles[sites.frozen]
        pair = active + passive
        active = active.view_as(active)
        context = cast(LoopContext, self.contexts[layer])
        moved, log_derivative = self.move_active(move, context, active, pair, frozen)
        return Cells(active, pair, frozen, moved, log_derivative)

    @property
    def orientation(self) -> int:
        """The sign of theta_mu(n) in P_01(n)."""
        return 1 if self.mu == 0 else -1

    def move_links(self, links: Tensor, changes: Tensor) -> Tensor:
        """The field whose links along mu change their plaquettes by (V, B)."""
        along = links[:, self.mu]
        return links.select_scatter(along + self.orientation * changes.T.view_as(along), 1, self.mu)


def sites_first(field: Tensor) -> Tensor:
    """(B, L0, L1) -> a contiguous (V, B)."""
    return field.flatten(1).T.contiguous()


def move_pair(angles: Tensor, sites: CellSites, cells: Cells) -> Tensor:
    """The plaquettes (V, B) after the layer."""
    change = cells.moved - cells.active
    return angles.index_add(0, torch.cat([sites.active, sites.passive]), torch.cat([change, -change]))


@dataclass(frozen=True)
class PlaquetteCouplingFlow(FlowPlan):
    """The flow of `n_layers` plaquette couplings from Haar-random links to a 2D U(1) theory.

    Eight layers move every link once. `pattern` places the links of a layer: all of every fourth row, or every second
    one of every second row, so that all loops beside them are frozen. `transform` is a map of CIRCLE_MAPS: the
    projection is smooth and trains faster. Its options may stand in its table or beside it. `hidden` are the widths of
    the context networks, whose weights do not depend on the shape.

    Raises ValueError for a shape whose sides are not multiples of 4, and for values out of range.
    """

    shape: tuple[int, int]
    _: KW_ONLY
    n_layers: int = 16
    pattern: PatternName = "checkerboard"
    transform: CircleMap = "projection"
    n_components: int | None = None  # of the projection: 4
    n_bins: int | None = None  # of the spline: 8
    hidden: tuple[int, ...] = (16,)

    space: ClassVar[Space] = CIRCLE

    def __post_init__(self) -> None:
        check_shape("plaquette_coupling", self.shape)
        settle_options(self, CIRCLE_MAPS, n_components=4, n_bins=8)
        self._circle()  # which checks its own
        check_sweeps(self.n_layers, self.pattern, self.hidden)

    def assemble(self) -> Flow:
        """The couplings after each other."""
        layers = sweeps(self.n_layers, self.pattern, self._circle(), self.hidden, _LAST_LAYER)
        return Flow(HaarU1((2, *self.shape)), Chain(*layers))

    def _circle(self) -> CircleTransform:
        return CIRCLE_MAPS.build(self.transform, n_components=self.n_components, n_bins=self.n_bins)


plaquette_coupling = building(PlaquetteCouplingFlow)


def check_sweeps(n_layers: int, pattern: str, hidden: tuple[int, ...]) -> None:
    """Raises ValueError for what `sweeps` cannot make."""
    check_between("n_layers", n_layers, 1, MOST_LAYERS)
    if pattern not in PATTERNS:
        raise ValueError(f"pattern must be one of {', '.join(PATTERNS)}, got {pattern!r}")
    check_widths(hidden)


def sweeps(
    n_layers: int, pattern: str, circle: CircleTransform, hidden: tuple[int, ...], last_layer: float
) -> list[Transform]:
    """Couplings in alternating directions, four layers each, the last one perhaps fewer."""
    mask = PATTERNS[pattern]
    couplings: list[Transform] = []
    for start in range(0, n_layers, len(OFFSETS)):
        offsets = OFFSETS[: n_layers - start]
        contexts = [LoopContext(circle, mask, tuple(hidden), last_layer) for _ in offsets]
        couplings.append(PlaquetteCoupling(len(couplings) % 2, offsets, mask, circle, contexts))
    return couplings


def check_shape(name: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError for a lattice that the patterns do not fit."""
    if len(shape) != 2 or any(side < PERIOD or side % PERIOD for side in shape):
        text = " x ".join(str(side) for side in shape) or "no lattice"
        raise ValueError(f"{name} needs two sides that are multiples of {PERIOD}, such as 8 x 12; got {text}")
