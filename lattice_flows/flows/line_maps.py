"""The maps of real numbers that a flow can name."""

from typing import Annotated

from lattice_flows.flows.line_spline import LineSpline
from lattice_flows.flows.line_transform import Affine, LineTransform, Shift, SinhArcsinh
from lattice_flows.flows.logistics import LogisticDensity, LogisticMixture
from lattice_flows.flows.map_catalogue import MapCatalogue, MapTable
from lattice_flows.flows.monotone import MonotoneNetwork

LINE_MAPS = MapCatalogue[LineTransform](
    {
        "affine": Affine,
        "spline": LineSpline,
        "sinh_arcsinh": SinhArcsinh,
        "shift": Shift,
        "logistics": LogisticMixture,
        "logistic_density": LogisticDensity,
        "monotone": MonotoneNetwork,
    },
    given=("bound", "width"),
)
"""`bound` and `width` are lengths of the variables' distribution, which the flow knows."""

LineMap = Annotated[MapTable, LINE_MAPS]
