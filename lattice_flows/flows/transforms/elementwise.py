"""One map of every variable."""

from dataclasses import dataclass

from lattice_flows.flows.line_maps import LINE_MAPS, LineMap
from lattice_flows.flows.line_transform import LineTransform
from lattice_flows.flows.site_coupling import SiteMap
from lattice_flows.flows.transform import Transform
from lattice_flows.flows.transforms.plan import Fields, TransformPlan, check_real

SPLINE_BOUND = 4.0  # of splines, in units of the fields' width: a normal deviate lies outside once in 16,000


@dataclass(frozen=True)
class ElementwisePlan(TransformPlan):
    """The same map of LINE_MAPS at every site, odd under phi -> -phi, with learnt parameters; the identity at first.

    Raises ValueError for a map without even parameters.
    """

    map: LineMap = "spline"

    def __post_init__(self) -> None:
        if LINE_MAPS.build(self.map).n_even == 0:  # which checks it, too
            raise ValueError(f"map = {self.map!r} has no parameter that keeps phi -> -phi")

    def check(self, fields: Fields) -> None:
        """Raise ValueError for other variables than real numbers."""
        check_real(fields)

    def assemble(self, fields: Fields) -> Transform:
        """The map, with one set of parameters."""
        return SiteMap(line_of(self.map, fields))


def line_of(table: LineMap, fields: Fields) -> LineTransform:
    """The map of a table, whose lengths suit the fields."""
    return LINE_MAPS.build(table, bound=SPLINE_BOUND * fields.width, width=fields.width)
