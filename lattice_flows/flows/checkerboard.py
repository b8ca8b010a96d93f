"""The checkerboard flow of scalar fields."""

from typing import Literal

import numpy as np
import torch

from lattice_flows.flows.flow import Flow
from lattice_flows.flows.initialise import initialise
from lattice_flows.flows.line_spline import LineSpline
from lattice_flows.flows.line_transform import Affine, LineTransform, SinhArcsinh
from lattice_flows.flows.neighbour_context import NeighbourContext
from lattice_flows.flows.phi4_prior import FreeFieldPrior, GaussianPrior
from lattice_flows.flows.prior import Prior
from lattice_flows.flows.site_coupling import SiteCoupling, SiteMap, stencil
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.theories.action import Action
from lattice_flows.theories.phi4.action import LocalScalar
from lattice_flows.theories.phi4.free_field import FreeField

_START_MASS_SQUARED = 1.0  # of the free field: a correlation length of one site, from which it is learnt
_BOUND = 4.0  # of the splines, in units of the prior's width: a normal deviate lies outside once in 16,000


def checkerboard_coupling(
    shape: tuple[int, ...],
    action: Action,
    *,
    n_layers: int = 6,
    transform: Literal["affine", "spline"] = "spline",
    n_bins: int = 8,
    prior: Literal["gaussian", "free"] = "free",
    hidden: tuple[int, ...] = (16, 16),
    kernel: int = 5,
) -> Flow:
    """The flow of `n_layers` checkerboard couplings (arXiv:1904.12072) to a phi^4 theory, odd under phi -> -phi.

    Layer k moves the sites whose coordinates have an even (k = 0, 2, ...) or odd sum, given the others within a window
    of `kernel` sites along every axis. `hidden` are the widths of the context networks; the weights do not depend on
    the shape, which may have any dimension. "affine" maps are smooth, which suits latent HMC, and end with one learnt
    sinh-arcsinh map of every site, since their conditional densities are all normal; "spline" maps (`n_bins`) come much
    closer to the target. The prior is a free field with the action's hopping term and a learnt mass, or independent
    normal deviates of the same width: the free one already holds most of the correlations between sites. All maps begin
    as the identity. The weights are drawn from a generator of seed 0: call `initialise` for others.

    Raises ValueError for a theory that is not phi^4, odd sides, and values out of range.
    """
    hop = _hop(shape, action)
    _check(n_layers, hidden, kernel)
    # On a fixed lattice: what the weights mean must not depend on the shape.
    width = FreeField(_START_MASS_SQUARED, (8,) * len(shape), hop).phi_squared ** 0.5
    line = _line(transform, n_bins, _BOUND * width)
    odd = np.indices(shape).sum(0) % 2 == 1
    places = [stencil(active, ~active, kernel // 2) for active in (~odd, odd)]
    layers: list[Transform] = []
    for layer in range(n_layers):
        active, neighbours = places[layer % 2]
        context = NeighbourContext(len(neighbours), tuple(hidden), line.n_even, line.n_odd)
        layers.append(SiteCoupling(active, neighbours, line, context))
    if transform == "affine":
        layers.append(SiteMap(SinhArcsinh(width)))
    flow = Flow(_prior(prior, tuple(shape), hop, width), Chain(*layers))
    initialise(flow, torch.Generator().manual_seed(0))
    return flow


def _line(transform: str, n_bins: int, bound: float) -> LineTransform:
    if transform == "affine":
        return Affine()
    if transform == "spline":
        return LineSpline(n_bins, bound)
    raise ValueError(f'transform must be "affine" or "spline", got {transform!r}')


def _prior(prior: str, shape: tuple[int, ...], hop: float, width: float) -> Prior:
    if prior == "gaussian":
        return GaussianPrior(shape, width)
    if prior == "free":
        return FreeFieldPrior(shape, _START_MASS_SQUARED, hop, learnable=True)
    raise ValueError(f'prior must be "gaussian" or "free", got {prior!r}')


def _hop(shape: tuple[int, ...], action: Action) -> float:
    """The hopping term's coefficient. Raises ValueError for what the flow does not support."""
    if not isinstance(action, LocalScalar):
        raise ValueError(f"checkerboard_coupling is a flow of phi4 and phi4_hopping, got {type(action).__name__}")
    if not shape or any(side < 2 or side % 2 for side in shape):
        text = " x ".join(str(side) for side in shape)
        raise ValueError(f"checkerboard_coupling needs even sides, such as 8 x 6; got {text}")
    return action.couplings(len(shape)).hop


def _check(n_layers: int, hidden: tuple[int, ...], kernel: int) -> None:
    if n_layers < 1:
        raise ValueError(f"n_layers must be at least 1, got {n_layers}")
    if not hidden or any(width < 1 for width in hidden):
        raise ValueError(f"hidden must be a list of one or more widths >= 1, got {list(hidden)}")
    if kernel < 3 or kernel % 2 == 0:
        raise ValueError(f"kernel must be odd and at least 3, got {kernel}")
