"""The maps of real numbers that a flow can name."""

from typing import Annotated

from lattice_flows.flows.line_spline import LineSpline
from lattice_flows.flows.line_transform import Affine, LineTransform, SinhArcsinh
from lattice_flows.flows.map_catalogue import MapCatalogue, MapTable

LINE_MAPS = MapCatalogue[LineTransform](
    {"affine": Affine, "spline": LineSpline, "sinh_arcsinh": SinhArcsinh}, given=("bound", "width")
)
"""`bound` and `width` are lengths of the variables' distribution, which the flow knows."""

LineMap = Annotated[MapTable, LINE_MAPS]
