"""The catalogue of transforms: constructions that compose with each other, of scalar fields, vectors and angles."""

from lattice_flows.flows.transforms.actnorm import ActNormPlan
from lattice_flows.flows.transforms.angle_coupling import AngleCouplingPlan
from lattice_flows.flows.transforms.autoregressive import IAFPlan, MAFPlan
from lattice_flows.flows.transforms.backwards import InversePlan
from lattice_flows.flows.transforms.blocks import BlocksPlan, coarse
from lattice_flows.flows.transforms.channel_mixing import ChannelMixingPlan
from lattice_flows.flows.transforms.coupling import CouplingPlan
from lattice_flows.flows.transforms.dense_velocity import ContinuousPlan
from lattice_flows.flows.transforms.elementwise import ElementwisePlan
from lattice_flows.flows.transforms.lattice_velocity import ContinuousLatticePlan
from lattice_flows.flows.transforms.plan import TRANSFORMS, Fields, TransformPlan, TransformTables
from lattice_flows.flows.transforms.planar import PlanarPlan, SylvesterPlan
from lattice_flows.flows.transforms.residual import ResidualPlan
from lattice_flows.flows.transforms.single_sites import SingleSitesPlan
from lattice_flows.flows.transforms.spectrum import FreeFieldPlan, SpectrumPlan

TRANSFORMS.maps.update(
    {
        "elementwise": ElementwisePlan,
        "single_sites": SingleSitesPlan,
        "coupling": CouplingPlan,
        "angle_coupling": AngleCouplingPlan,
        "blocks": BlocksPlan,
        "coarse": coarse,
        "inverse": InversePlan,
        "planar": PlanarPlan,
        "sylvester": SylvesterPlan,
        "actnorm": ActNormPlan,
        "convolution_1x1": ChannelMixingPlan,
        "spectrum": SpectrumPlan,
        "free_field": FreeFieldPlan,
        "maf": MAFPlan,
        "iaf": IAFPlan,
        "residual": ResidualPlan,
        "continuous": ContinuousPlan,
        "continuous_lattice": ContinuousLatticePlan,
    }
)

__all__ = ["TRANSFORMS", "Fields", "TransformPlan", "TransformTables"]
