"""The hierarchical Wilson-loop flow of 2D U(1): the flux of the torus is shared out, half by half."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lattice_flows.flows.conditioners import (
    Conditioner,
    ExactConditioner,
    NetworkConditioner,
    StructuredConditioner,
    check_beta,
)
from lattice_flows.flows.flow import Flow
from lattice_flows.flows.plan import Ability, FlowPlan, building, check_between, check_widths
from lattice_flows.flows.plaquette_action import stiffness
from lattice_flows.flows.prior import HaarU1
from lattice_flows.flows.transform import Transform
from lattice_flows.flows.tree import RegionTree, Split, check_tree_shape, tree_of
from lattice_flows.flows.tree_map import tree_forward, tree_inverse
from lattice_flows.lattice import CIRCLE, Space, plaquette
from lattice_flows.theories.action import Action
from lattice_flows.theories.u1.action import WilsonU1

ConditionerName = Literal["mlp", "structured", "exact"]


class Multiscale(Transform):
    """Gives every region's flux to its halves, from the torus down to single plaquettes.

    In a region with flux s the share a of the first half, an angle, becomes s/2 + u', where u' = f(u; s) is a spline of
    u = wrap(a - s/2). From Haar-random links all shares of all regions are independent and uniform; here they acquire
    the densities that `conditioner` gives. Each share is changed by one link that the two halves have in common and
    that no other region sees, so the map commutes with gauge transformations and its log_det is the sum of log f'. It
    does not matter which links carry the change: here those of a comb (theta_1 of all rows but the first, theta_0 of
    the last row). Where the splines are odd it also commutes with charge conjugation.

    It exploits that in two dimensions the plaquettes are independent except for their sum, which makes the share's
    density a function of s alone. Where plaquettes interact it is a starting point for other layers.
    """

    domain = codomain = CIRCLE
    leaves: Tensor
    sites: Tensor
    lo: Tensor
    mid: Tensor

    def __init__(self, tree: RegionTree, conditioner: Conditioner) -> None:
        super().__init__()
        self.tree, self.conditioner = tree, conditioner
        sites = torch.from_numpy(tree.leaves)
        self.register_buffer("leaves", sites, persistent=False)
        self.register_buffer("sites", torch.argsort(sites), persistent=False)
        self.register_buffer("lo", torch.from_numpy(tree.lo), persistent=False)
        self.register_buffer("mid", torch.from_numpy(tree.mid), persistent=False)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        before = self.leaves_of(plaquette(z, 0, 1)).double()
        after, log_det = tree_forward(self.shares_of(before), self.conditioner.tables(), self.tree)
        return z + self._link_change(after - before).to(z.dtype), log_det.to(z.dtype)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        before = self.leaves_of(plaquette(x, 0, 1)).double()
        shares, log_det = tree_inverse(before, self.conditioner.tables(), self.tree)
        return x + self._link_change(self._plaquettes(shares) - before).to(x.dtype), log_det.to(x.dtype)

    def leaves_of(self, field: Tensor) -> Tensor:
        """Plaquettes (B, L0, L1) in the tree's order, (B, V)."""
        return field.flatten(1)[:, self.leaves]

    def field(self, leaves: Tensor) -> Tensor:
        """Plaquettes (B, V) of the tree's order in that of the lattice, (B, L0, L1)."""
        return leaves[:, self.sites].unflatten(1, self.tree.shape)

    def shares_of(self, plaquettes: Tensor) -> Tensor:
        """The flux through the first half of every region, wrapped, (B, V - 1)."""
        sums = torch.nn.functional.pad(plaquettes.cumsum(1), (1, 0))
        return CIRCLE.wrap(sums[:, self.mid] - sums[:, self.lo])

    def _plaquettes(self, shares: Tensor) -> Tensor:
        """Plaquettes (B, V) with the given shares and no flux through the torus: the inverse of shares_of, wrapped."""
        sums = self._sums(shares)
        return CIRCLE.wrap(sums.diff(dim=1))

    def _sums(self, shares: Tensor) -> Tensor:
        """The flux through the leaves below each place 0 ... V, (B, V + 1): share = sums(mid) - sums(lo)."""
        sums = shares.new_zeros(shares.shape[0], shares.shape[1] + 2)
        for level in self.tree.levels:
            sums = sums.index_copy(1, self.mid[level], sums[:, self.lo[level]] + shares[:, level])
        return sums

    def _link_change(self, change: Tensor) -> Tensor:
        """A change of the links (B, 2, L0, L1) that changes the plaquettes by (B, V), in the tree's order, mod 2 pi."""
        p = self.field(CIRCLE.wrap(change))  # so that the inverse takes back the same change
        columns = p.cumsum(1)
        along_1 = torch.nn.functional.pad(columns[:, :-1], (0, 0, 1, 0))
        last_row = torch.nn.functional.pad(-columns[:, -1, :-1].cumsum(1), (1, 0)).unsqueeze(1)
        along_0 = torch.cat([torch.zeros_like(p[:, :-1]), last_row], 1)
        return torch.stack([along_0, along_1], 1)


@dataclass(frozen=True)
class MultiscaleFlow(FlowPlan):
    """The multiscale flow from Haar-random links, on a 2D lattice of any two sides.

    conditioner: "mlp", a network of widths `hidden` per kind of split; "structured", an even function with
    `n_harmonics` cosines for each; "exact", the density of the Wilson action, which needs no training.
    n_bins: bins of each spline; n_knots: values of |s| at which it is tabulated; the defaults suit the conditioner.

    Raises ValueError for a shape that is not 2D, for values out of range, and for "exact" with another action.
    """

    shape: tuple[int, int]
    action: Action
    _: KW_ONLY
    conditioner: ConditionerName = "mlp"
    n_bins: int | None = None
    n_knots: int | None = None
    n_harmonics: int = 16
    hidden: tuple[int, ...] = (32, 32)

    space: ClassVar[Space] = CIRCLE
    offers: ClassVar[frozenset[Ability]] = FlowPlan.offers | {"regions"}

    def __post_init__(self) -> None:
        check_tree_shape(self.shape)
        if self.conditioner not in _DEFAULTS:
            raise ValueError(f"conditioner must be one of {', '.join(_DEFAULTS)}, got {self.conditioner!r}")
        n_bins, n_knots = self._table
        check_between("n_bins", n_bins, 2, _MAX_BINS)
        if self.conditioner == "mlp":
            check_between("n_knots", n_knots, 2, _MAX_KNOTS)
            check_widths(self.hidden, fewest=1)
        elif self.conditioner == "structured":
            _check_knots(n_knots, _GRID // 2)
            check_between("n_harmonics", self.n_harmonics, 1, _GRID // 4)
            check_beta(stiffness(self.action))
        else:
            beta = self._wilson.beta
            _check_knots(n_knots, _GRID)
            check_beta(beta)

    @property
    def table_bytes(self) -> int:
        """The tree, while it is grown: a few Python objects for every plaquette."""
        return _BYTES_OF_A_REGION * math.prod(self.shape)

    def assemble(self) -> Flow:
        """The tree, and the conditioner of its kinds of splits."""
        tree = tree_of(tuple(self.shape))
        return Flow(HaarU1((2, *self.shape)), Multiscale(tree, self._conditioner(tree.splits)))

    def _conditioner(self, splits: Sequence[Split]) -> Conditioner:
        if self.conditioner == "mlp":
            return NetworkConditioner(splits, *self._table, tuple(self.hidden))
        if self.conditioner == "structured":
            kappa = stiffness(self.action)
            return StructuredConditioner(splits, *self._table, self.n_harmonics, _GRID // 2, kappa)
        return ExactConditioner(splits, self._wilson.beta, *self._table, _GRID)

    @property
    def _table(self) -> tuple[int, int]:
        """n_bins and n_knots."""
        n_bins, n_knots = _DEFAULTS[self.conditioner]
        return n_bins if self.n_bins is None else self.n_bins, n_knots if self.n_knots is None else self.n_knots

    @property
    def _wilson(self) -> WilsonU1:
        """The action, whose density is known. Raises ValueError for another one."""
        if not isinstance(self.action, WilsonU1):
            raise ValueError(f"conditioner = 'exact' is for the Wilson action, not for {type(self.action).__name__}")
        return self.action


multiscale = building(MultiscaleFlow)

_DEFAULTS = {"mlp": (12, 49), "structured": (64, 25), "exact": (64, 129)}  # n_bins, n_knots
_GRID = 768  # points between 0 and pi of tabulated densities
_MAX_BINS = 256  # each ends at another point of the grid
_MAX_KNOTS = 1000
_BYTES_OF_A_REGION = 400


def _check_knots(n_knots: int, grid: int) -> None:
    """Raise ValueError unless |s|/2 at every knot falls on the grid, see `pair_log_density`."""
    intervals = grid // 2
    if n_knots < 2 or intervals % (n_knots - 1):
        raise ValueError(f"n_knots must be 1 more than a divisor of {intervals}, such as 25 or 49, got {n_knots}")
