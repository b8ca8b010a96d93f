"""Couplings of planar spins: some angles move at a time, given the others around them."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lattice_flows.flows.circle_maps import CIRCLE_MAPS, CircleMap
from lattice_flows.flows.circle_transform import CircleTransform
from lattice_flows.flows.network_dtype import network_dtype
from lattice_flows.flows.plan import check_between, check_widths
from lattice_flows.flows.site_coupling import SiteCoupling, stencil
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.flows.transforms.masks import MASKS, Mask, MaskTable, masks_of
from lattice_flows.flows.transforms.plan import Fields, TransformPlan
from lattice_flows.lattice import CIRCLE

_ROUNDING = 0.1  # of the length |u| at its corner, u = 0
_MOST_REACH = 49
_LAST_LAYER = 0.02  # initial size of the networks' last layers: alike components would stay so


class SpinContext(nn.Module):
    """Parameters of the active angles' maps from the frozen spins around them, alike at every site.

    u_j = sum_n W_jn e^(i theta_n) are `hidden[0]` sums of the spins at n_neighbours places, and a network of SiLU
    layers `hidden[1:]` acts on their lengths and on the cosines between them and the first one, which no rotation or
    reflection of all spins changes. It returns the scalars of the circle transform, and amplitudes of its vectors
    h = sum_j alpha_j u_j: the coupling commutes with rotations and reflections of all spins. (Given its neighbours a
    spin of the XY model has the density exp[h.(cos a, sin a)] with constant alpha.) The maps begin near the identity.
    """

    def __init__(self, n_neighbours: int, hidden: tuple[int, ...], circle: CircleTransform) -> None:
        super().__init__()
        self.circle = circle
        self.sums = nn.Parameter(torch.zeros(hidden[0], n_neighbours))
        widths = [2 * hidden[0], *hidden[1:], circle.n_scalars + circle.n_vectors * hidden[0]]
        self.weights = nn.ParameterList([torch.zeros(n_out, n_in) for n_in, n_out in pairwise(widths)])
        self.biases = nn.ParameterList([torch.zeros(n_out) for n_out in widths[1:]])

    def initialise(self, generator: torch.Generator) -> None:
        """Redraw the weights: variance 1/n_in, the last layer small: with zeros all components would stay alike."""
        last = len(self.weights) - 1
        with torch.no_grad():
            self.sums.normal_(0.0, 1.0 / math.sqrt(self.sums.shape[1]), generator=generator)
            for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
                size = _LAST_LAYER if layer == last else 1.0
                weight.normal_(0.0, size / math.sqrt(weight.shape[1]), generator=generator)
                bias.normal_(0.0, size, generator=generator) if layer == last else bias.zero_()

    def forward(self, near: Tensor) -> tuple[Tensor]:
        """near (n_neighbours, sites, B) -> parameters (sites, B, n_scalars + 2 n_vectors), in the dtype of near."""
        dtype, size = network_dtype(self.sums), near.shape[1:]
        angles = near.flatten(1).to(dtype)  # (n_neighbours, columns)
        sums = self.sums.to(dtype)
        u, v = sums @ torch.cos(angles), sums @ torch.sin(angles)  # (n_sums, columns)
        length = torch.sqrt(u * u + v * v + _ROUNDING**2)
        x = torch.cat([length, (u * u[:1] + v * v[:1]) / (length * length[:1])])
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = torch.addmm(bias.to(dtype).unsqueeze(1), weight.to(dtype), x)
            x = x if layer == last else functional.silu(x)
        scalars, amplitudes = x[: self.circle.n_scalars], x[self.circle.n_scalars :]
        if not self.circle.even_scalars:
            scalars = 0.5 * (scalars + self.circle.mirror(scalars))
        amplitudes = amplitudes.unflatten(0, (self.circle.n_vectors, -1))  # (n_vectors, n_sums, columns)
        vectors = [(amplitudes * component).sum(1) for component in (u, v)]
        return (torch.cat([scalars, *vectors]).to(near.dtype).unflatten(1, size).movedim(0, -1),)


@dataclass(frozen=True)
class AngleCouplingPlan(TransformPlan):
    """Couplings of the angles at the sites of a lattice, which move all of them once.

    They commute with rotations of all spins (but those of "spline") and with their reflection. mask: one of MASKS. map:
    one of CIRCLE_MAPS. hidden: widths of the networks, see `SpinContext`, which see the frozen sites within `reach`
    along every axis.
    """

    mask: MaskTable = "checkerboard"
    map: CircleMap = "projection"
    hidden: tuple[int, ...] = (8, 16)
    reach: int = 1

    def __post_init__(self) -> None:
        MASKS.split(self.mask)  # which checks the name and the options
        CIRCLE_MAPS.build(self.map)  # likewise
        check_widths(self.hidden, fewest=1)
        check_between("reach", self.reach, 1, _MOST_REACH)

    def check(self, fields: Fields) -> None:
        """Raise ValueError for what are no angles on a lattice, and for masks that do not fit it."""
        if fields.space != CIRCLE or not fields.sites:
            raise ValueError(f"maps angles at the sites of a lattice, not {fields.space} on {fields}")
        for active in masks_of(self.mask, fields):
            self._places(active)

    def assemble(self, fields: Fields) -> Transform:
        """One coupling for each step of the mask."""
        circle, steps = CIRCLE_MAPS.build(self.map), []
        for active in masks_of(self.mask, fields):
            moved, places = self._places(active)
            context = SpinContext(len(places), tuple(self.hidden), circle)
            steps.append(SiteCoupling(moved, places, circle, context, CIRCLE))
        return Chain(*steps)

    def _places(self, active: Mask) -> tuple[Tensor, Tensor]:
        """The active sites, and the frozen ones around them."""
        return stencil(active, ~active, self.reach)
