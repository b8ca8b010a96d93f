"""The maps of angles that a flow can name."""

from typing import Annotated

from lattice_flows.flows.circle_transform import CircleTransform
from lattice_flows.flows.map_catalogue import MapCatalogue, MapTable
from lattice_flows.flows.moebius import Moebius
from lattice_flows.flows.projection import ProjectionMixture
from lattice_flows.flows.spline import CircularSpline

CIRCLE_MAPS = MapCatalogue[CircleTransform](
    {"projection": ProjectionMixture, "spline": CircularSpline, "moebius": Moebius}
)

CircleMap = Annotated[MapTable, CIRCLE_MAPS]
