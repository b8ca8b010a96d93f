"""Observables of gauge fields after the gradient flow."""

from dataclasses import dataclass, replace

from lattice_flows.theories.observable import Array, Label, Observable, Quantity
from lattice_flows.theories.u1.kernels.gradient_flow import gradient_flow

LONGEST_FLOW = 1000.0


@dataclass(frozen=True)
class Flowed(Observable):
    """An observable at a flow time t, in units of a^2: smeared over a radius of about sqrt(4 t).

    To lowest order the flow is the heat equation, with <r^2> = 2 D t in D dimensions; the sqrt(8 t) of arXiv:1006.4518
    is that of D = 4, here D = 2.

    The names of series and quantities contain the flow time, as in plaquette_t0.5. The only closed forms are those
    that follow from a symmetry, which the flow preserves.

    Raises ValueError for an observable of anything but gauge fields, for one that is already flowed, and for a flow
    time outside (0, 1000].
    """

    observable: Observable
    flow_time: float

    def __post_init__(self) -> None:
        if not self.observable.flowable:
            raise ValueError(f"the gradient flow is for gauge fields, got {self.observable.name}")
        if not 0.0 < self.flow_time <= LONGEST_FLOW:
            raise ValueError(f"a flow time must be above 0 and at most {LONGEST_FLOW:g}, got {self.flow_time}")
        object.__setattr__(self, "flow_time", float(self.flow_time))

    @property
    def odd(self) -> bool:  # type: ignore[override]
        """The observable changes sign under a symmetry of the theory."""
        return self.observable.odd

    @property
    def name(self) -> str:
        return f"{self.observable.name}{self._suffix}"

    @property
    def _suffix(self) -> str:
        return f"_t{repr(self.flow_time).removesuffix('.0')}"

    def __call__(self, x: Array) -> Array:
        return self.observable(gradient_flow(x, self.flow_time))

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        return tuple(self._renamed(quantity) for quantity in self.observable.quantities(lattice_shape))

    def _renamed(self, quantity: Quantity) -> Quantity:
        terms = tuple(term._replace(series=f"{term.series}{self._suffix}") for term in quantity.terms)
        exact = quantity.exact if quantity.by_symmetry else None
        plain, page, tex = quantity.short
        time = self._suffix.removeprefix("_t")
        label = Label(f"{plain} (t={time})", f"{page} (t = {time})", f"{tex} ($t = {time}$)")
        return replace(quantity, name=f"{quantity.name}{self._suffix}", terms=terms, exact=exact, label=label)
