"""The density of a single site of phi^4 as a layer."""

from dataclasses import dataclass

from lattice_flows.flows.tabulated import quartic_sites
from lattice_flows.flows.transform import Transform
from lattice_flows.flows.transforms.plan import Fields, TransformPlan, check_real
from lattice_flows.theories.phi4.action import LocalScalar

_LARGEST = 1e6  # coefficient


@dataclass(frozen=True)
class SingleSitesPlan(TransformPlan):
    """Normal deviates of the fields' width become x of the density exp(-quadratic x^2 - quartic x^4), see `Tabulated`.

    The coefficients are by default those of a site of the action whose neighbours are 0. There is nothing to learn. It
    is meant to stand first, after a Gaussian prior. n_points: of the table.

    Raises ValueError for values out of range.
    """

    quadratic: float | None = None
    quartic: float | None = None
    n_points: int = 401

    def __post_init__(self) -> None:
        for key, least in (("quadratic", -_LARGEST), ("quartic", 1.0 / _LARGEST)):
            if (value := getattr(self, key)) is not None and not least <= value <= _LARGEST:
                raise ValueError(f"{key} must be between {least:g} and {_LARGEST:g}, got {value}")
        quartic_sites(
            1.0 if self.quadratic is None else self.quadratic,
            1.0 if self.quartic is None else self.quartic,
            n_points=self.n_points,
        )  # which checks them

    def check(self, fields: Fields) -> None:
        """Raise ValueError for other variables than real numbers, and where an action has no such coefficients."""
        check_real(fields)
        self._coefficients(fields)

    def assemble(self, fields: Fields) -> Transform:
        """The map of every site."""
        return quartic_sites(*self._coefficients(fields), fields.width, self.n_points)

    def _coefficients(self, fields: Fields) -> tuple[float, float]:
        if self.quadratic is not None and self.quartic is not None:
            return self.quadratic, self.quartic
        if not (isinstance(fields.action, LocalScalar) and fields.sites):
            raise ValueError("give quadratic and quartic, which are known of phi4 and phi4_hopping alone")
        usual = fields.action.couplings(len(fields.sites))
        quadratic = usual.quad if self.quadratic is None else self.quadratic
        quartic = usual.quart if self.quartic is None else self.quartic
        if quartic <= 0:
            raise ValueError(f"quartic must be above 0, got {quartic}, that of the theory")
        return quadratic, quartic
