"""Priors, transforms, flows = prior + transform, and the pullback of an action through them."""

from collections.abc import Callable

from lattice_flows.flows.circle import CircleTransform
from lattice_flows.flows.context import LoopContext
from lattice_flows.flows.flow import Flow, FlowSample
from lattice_flows.flows.initialise import initialise
from lattice_flows.flows.plaquette_coupling import PlaquetteCoupling, plaquette_coupling
from lattice_flows.flows.prior import HaarU1, Prior
from lattice_flows.flows.projection import ProjectionMixture
from lattice_flows.flows.pullback import Pullback
from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.spline import CircularSpline
from lattice_flows.flows.transform import Chain, Inverse, Transform

FLOWS: dict[str, Callable[..., Flow]] = {"plaquette_coupling": plaquette_coupling}

__all__ = [
    "FLOWS",
    "Chain",
    "CircleTransform",
    "CircularSpline",
    "Flow",
    "FlowSample",
    "HaarU1",
    "Inverse",
    "LoopContext",
    "PlaquetteCoupling",
    "Prior",
    "ProjectionMixture",
    "Pullback",
    "ScoredField",
    "Transform",
    "forward_with_score",
    "initialise",
    "plaquette_coupling",
]
