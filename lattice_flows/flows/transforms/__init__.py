"""The catalogue of transforms: constructions that compose with each other, of scalar fields, vectors and angles."""

from lattice_flows.flows.transforms.elementwise import ElementwisePlan
from lattice_flows.flows.transforms.plan import TRANSFORMS, Fields, TransformPlan, TransformTables

TRANSFORMS.maps.update({"elementwise": ElementwisePlan})

__all__ = ["TRANSFORMS", "Fields", "TransformPlan", "TransformTables"]
