"""Observables of 2D U(1) link fields (N, 2, L0, L1)."""

from dataclasses import dataclass

import numpy as np

from lattice_flows.exact import ExactU1
from lattice_flows.kernels import u1
from lattice_flows.lattice import CIRCLE
from lattice_flows.observables.observable import Array, Observable, Quantity, Term

_LONGEST = 1024


def _square(series: Array) -> Array:
    # The charge is an integer up to rounding, which would pass for a fluctuation of a frozen one.
    return np.rint(series) ** 2


@dataclass(frozen=True)
class Plaquette(Observable):
    """The mean of cos P over the lattice."""

    space = CIRCLE
    name = "plaquette"

    def __call__(self, x: Array) -> Array:
        return u1.mean_plaquette(x)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        return (Quantity("plaquette", (Term("plaquette"),), exact=lambda oracle: oracle.plaquette),)


@dataclass(frozen=True)
class TopologicalCharge(Observable):
    """Q = (1/2pi) sum_P wrap(P); estimated from it are <Q>, <Q^2> and chi_top = <Q^2>/V."""

    space = CIRCLE
    odd = True
    name = "topological_charge"

    def __call__(self, x: Array) -> Array:
        return u1.topological_charge(x)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        volume = int(np.prod(lattice_shape))
        return (
            Quantity("topological_charge", (Term(self.name, np.rint),), exact=lambda oracle: 0.0, by_symmetry=True),
            Quantity(
                "topological_charge_squared", (Term(self.name, _square),), exact=lambda oracle: oracle.charge_squared
            ),
            Quantity(
                "topological_susceptibility",
                (Term(self.name, lambda series: _square(series) / volume),),
                exact=lambda oracle: oracle.susceptibility,
            ),
        )


@dataclass(frozen=True)
class WilsonLoop(Observable):
    """The mean of cos of the r x t loops over the lattice and both orientations.

    Raises ValueError for r or t below 1.
    """

    space = CIRCLE
    r: int
    t: int

    def __post_init__(self) -> None:
        if not (1 <= self.r <= _LONGEST and 1 <= self.t <= _LONGEST):
            raise ValueError(f"a Wilson loop has 1 <= r, t <= {_LONGEST}, got r = {self.r}, t = {self.t}")
        if self.r > self.t:  # the mean over both orientations does not tell r from t: one name for one number
            r, t = self.t, self.r
            object.__setattr__(self, "r", r)
            object.__setattr__(self, "t", t)

    @property
    def name(self) -> str:
        return f"wilson_loop_{self.r}x{self.t}"

    def __call__(self, x: Array) -> Array:
        loops = u1.mean_wilson_loop(x, self.r, self.t)
        return loops if self.r == self.t else 0.5 * (loops + u1.mean_wilson_loop(x, self.t, self.r))

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        area = self.r * self.t

        def exact(oracle: ExactU1) -> float:
            return oracle.wilson_loop(area)

        # Beyond the lattice the loop covers plaquettes twice, and the closed form is another one.
        fits = max(self.r, self.t) <= min(lattice_shape)
        return (Quantity(self.name, (Term(self.name),), exact=exact if fits else None),)


@dataclass(frozen=True)
class PolyakovCorrelator(Observable):
    """The mean of cos(P_mu(x) - P_mu(x + distance)) of the Polyakov loops P_mu along axis mu.

    Raises ValueError for mu outside 0, 1 or a negative distance.
    """

    space = CIRCLE
    mu: int
    distance: int

    def __post_init__(self) -> None:
        if self.mu not in (0, 1) or self.distance < 0:
            raise ValueError(f"mu is 0 or 1 and distance >= 0, got mu = {self.mu}, distance = {self.distance}")

    @property
    def name(self) -> str:
        return f"polyakov_correlator_{self.mu}_{self.distance}"

    def __call__(self, x: Array) -> Array:
        return u1.mean_polyakov_correlator(x, self.mu, self.distance)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        area = lattice_shape[self.mu] * (self.distance % lattice_shape[1 - self.mu])
        return (Quantity(self.name, (Term(self.name),), exact=lambda oracle: oracle.wilson_loop(area)),)
