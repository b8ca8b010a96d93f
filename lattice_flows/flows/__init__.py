"""Priors, transforms, flows = prior + transform, and the pullback of an action through them."""

from lattice_flows.catalogue import Catalogue
from lattice_flows.flows.checkerboard import CheckerboardFlow, checkerboard_coupling
from lattice_flows.flows.circle_maps import CIRCLE_MAPS
from lattice_flows.flows.circle_transform import CircleTransform
from lattice_flows.flows.compiled import compile_flow
from lattice_flows.flows.composed import PRIORS, ComposedFlow, composed
from lattice_flows.flows.context import LoopContext
from lattice_flows.flows.direct_draws import DirectDraws, DirectPrior, direct_draws, drawn_streams
from lattice_flows.flows.flow import Flow, FlowSample, Proposer
from lattice_flows.flows.fourier_scaling import FourierScaling, FourierScalingFlow, fourier_scaling
from lattice_flows.flows.gradient_flow import GradientFlow, gradient_flow
from lattice_flows.flows.hybrid import HybridFlow, hybrid
from lattice_flows.flows.initialise import initialise
from lattice_flows.flows.latent_action import LatentAction
from lattice_flows.flows.line_maps import LINE_MAPS
from lattice_flows.flows.log_det_estimates import Estimating, estimated_log_dets
from lattice_flows.flows.map_catalogue import MapCatalogue
from lattice_flows.flows.mask_pattern import PATTERNS, MaskPattern
from lattice_flows.flows.moebius import Moebius
from lattice_flows.flows.molecules.harmonic import HarmonicCoordinates, harmonic_coordinates
from lattice_flows.flows.molecules.internal_coordinates import InternalCoordinates
from lattice_flows.flows.molecules.internal_coupling import InternalCouplingFlow, internal_coupling
from lattice_flows.flows.molecules.mixed_prior import MixedPrior
from lattice_flows.flows.multiscale import Multiscale, MultiscaleFlow, multiscale
from lattice_flows.flows.phi4_prior import FreeFieldPrior, GaussianPrior
from lattice_flows.flows.plan import Ability, FlowPlan, abilities
from lattice_flows.flows.plaquette_action import IndependentPlaquettes, PlaquetteAction
from lattice_flows.flows.plaquette_coupling import PlaquetteCoupling, PlaquetteCouplingFlow, plaquette_coupling
from lattice_flows.flows.plaquette_form import ActionOfPlaquettes, PlaquetteTree, Reduced, reduced
from lattice_flows.flows.plaquette_map import PlaquetteMap, PlaquetteMapFlow, plaquette_map
from lattice_flows.flows.prior import HaarU1, Prior
from lattice_flows.flows.prior_action import PriorAction, prior_action
from lattice_flows.flows.projection import ProjectionMixture
from lattice_flows.flows.pullback import Pullback
from lattice_flows.flows.refine import (
    MAX_STEP_ERROR,
    REFINED,
    TRAINING_STEP_ERROR,
    Integrated,
    integrated_parts,
    refine,
)
from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.spline import CircularSpline
from lattice_flows.flows.symmetrised import AveragedFlow, JointFlow, SymmetrisedFlow
from lattice_flows.flows.tabulated import Tabulated, quartic_sites
from lattice_flows.flows.transform import Chain, Inverse, Transform
from lattice_flows.flows.transforms import TRANSFORMS, Fields, TransformPlan
from lattice_flows.flows.trivializing import TrivializingFlow
from lattice_flows.flows.vector_coupling import VectorCouplingFlow, vector_coupling

FLOWS: Catalogue[type[FlowPlan]] = Catalogue(
    "flows",
    {
        "plaquette_coupling": PlaquetteCouplingFlow,
        "multiscale": MultiscaleFlow,
        "hybrid": HybridFlow,
        "gradient_flow": GradientFlow,
        "checkerboard_coupling": CheckerboardFlow,
        "vector_coupling": VectorCouplingFlow,
        "internal_coupling": InternalCouplingFlow,
        "fourier_scaling": FourierScalingFlow,
        "plaquette_map": PlaquetteMapFlow,
        "direct_draws": DirectDraws,
        "composed": ComposedFlow,
        "symmetrised": SymmetrisedFlow,
    },
    base=FlowPlan,
)
"""Plans of flows: the lattice shape, the action if they have such a parameter, and options."""

__all__ = [
    "CIRCLE_MAPS",
    "FLOWS",
    "LINE_MAPS",
    "MAX_STEP_ERROR",
    "PATTERNS",
    "PRIORS",
    "REFINED",
    "TRAINING_STEP_ERROR",
    "TRANSFORMS",
    "Ability",
    "ActionOfPlaquettes",
    "AveragedFlow",
    "Chain",
    "CheckerboardFlow",
    "CircleTransform",
    "CircularSpline",
    "ComposedFlow",
    "DirectDraws",
    "DirectPrior",
    "Estimating",
    "Fields",
    "Flow",
    "FlowPlan",
    "FlowSample",
    "FourierScaling",
    "FourierScalingFlow",
    "FreeFieldPrior",
    "GaussianPrior",
    "GradientFlow",
    "HaarU1",
    "HarmonicCoordinates",
    "HybridFlow",
    "IndependentPlaquettes",
    "Integrated",
    "InternalCoordinates",
    "InternalCouplingFlow",
    "Inverse",
    "JointFlow",
    "LatentAction",
    "LoopContext",
    "MapCatalogue",
    "MaskPattern",
    "MixedPrior",
    "Moebius",
    "Multiscale",
    "MultiscaleFlow",
    "PlaquetteAction",
    "PlaquetteCoupling",
    "PlaquetteCouplingFlow",
    "PlaquetteMap",
    "PlaquetteMapFlow",
    "PlaquetteTree",
    "Prior",
    "PriorAction",
    "ProjectionMixture",
    "Proposer",
    "Pullback",
    "Reduced",
    "ScoredField",
    "SymmetrisedFlow",
    "Tabulated",
    "Transform",
    "TransformPlan",
    "TrivializingFlow",
    "VectorCouplingFlow",
    "abilities",
    "checkerboard_coupling",
    "compile_flow",
    "composed",
    "direct_draws",
    "drawn_streams",
    "estimated_log_dets",
    "forward_with_score",
    "fourier_scaling",
    "gradient_flow",
    "harmonic_coordinates",
    "hybrid",
    "initialise",
    "integrated_parts",
    "internal_coupling",
    "multiscale",
    "plaquette_coupling",
    "plaquette_map",
    "prior_action",
    "quartic_sites",
    "reduced",
    "refine",
    "vector_coupling",
]
