"""The catalogue of transforms: constructions that compose with each other, of scalar fields, vectors and angles."""

from lattice_flows.flows.transforms.angle_coupling import AngleCouplingPlan
from lattice_flows.flows.transforms.blocks import BlocksPlan, coarse
from lattice_flows.flows.transforms.coupling import CouplingPlan
from lattice_flows.flows.transforms.dense_velocity import ContinuousPlan
from lattice_flows.flows.transforms.elementwise import ElementwisePlan
from lattice_flows.flows.transforms.lattice_velocity import ContinuousLatticePlan
from lattice_flows.flows.transforms.plan import TRANSFORMS, Fields, TransformPlan, TransformTables

TRANSFORMS.maps.update(
    {
        "elementwise": ElementwisePlan,
        "coupling": CouplingPlan,
        "angle_coupling": AngleCouplingPlan,
        "blocks": BlocksPlan,
        "coarse": coarse,
        "continuous": ContinuousPlan,
        "continuous_lattice": ContinuousLatticePlan,
    }
)

__all__ = ["TRANSFORMS", "Fields", "TransformPlan", "TransformTables"]
