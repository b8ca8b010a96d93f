"""Observables of 2D U(1) link fields (N, 2, L0, L1)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lattice_flows.theories.action import NamedObservable
from lattice_flows.theories.observable import Array, Label, Observable, Quantity, Term, closed_form
from lattice_flows.theories.u1.kernels import fields, polyakov

_LONGEST = 1024
_FARTHEST = 4096


def _square(series: Array) -> Array:
    # The charge is an integer up to rounding, which would pass for a fluctuation of a frozen one.
    return np.rint(series) ** 2


def _fourth_power(series: Array) -> Array:
    return np.square(np.square(np.rint(series)))  # ** 4 takes fifty times as long


def _b2(q4: float, q2: float) -> float:
    """-(<Q^4> - 3 <Q^2>^2) / (12 <Q^2>), of the energy's expansion in theta (arXiv:hep-th/0602212)."""
    return (3.0 * q2 * q2 - q4) / (12.0 * q2) if q2 else math.nan


@dataclass(frozen=True)
class Plaquette(Observable):
    """The mean of cos P over the lattice."""

    kind: ClassVar[str] = "plaquette"
    flowable: ClassVar[bool] = True
    name = "plaquette"

    def __call__(self, x: Array) -> Array:
        return fields.mean_plaquette(x)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        return (Quantity("plaquette", (Term("plaquette"),), exact=lambda oracle: oracle.plaquette),)


@dataclass(frozen=True)
class TopologicalCharge(Observable):
    """Q = (1/2pi) sum_P wrap(P).

    Estimated from it are <Q>, <Q^2>, chi_top = <Q^2>/V and b2 = -(<Q^4> - 3 <Q^2>^2) / (12 <Q^2>).
    """

    kind: ClassVar[str] = "topological_charge"
    flowable: ClassVar[bool] = True
    odd = True
    name = "topological_charge"

    def __call__(self, x: Array) -> Array:
        return fields.topological_charge(x)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        volume = int(np.prod(lattice_shape))
        return (
            Quantity(
                "topological_charge",
                (Term(self.name, np.rint),),
                exact=lambda oracle: 0.0,
                by_symmetry=True,
                label=Label("Q", "Q", "$Q$"),
            ),
            Quantity(
                "topological_charge_squared",
                (Term(self.name, _square),),
                exact=lambda oracle: oracle.charge_squared,
                label=Label("Q^2", "Q²", "$Q^2$"),
            ),
            Quantity(
                "topological_susceptibility",
                (Term(self.name, lambda series: _square(series) / volume),),
                exact=lambda oracle: oracle.susceptibility,
                label=Label("chi_top", "χ_top", r"$\chi_\mathrm{top}$"),
            ),
            Quantity(
                "topological_b2",
                (Term(self.name, _fourth_power), Term(self.name, _square)),
                _b2,
                exact=lambda oracle: oracle.b2,
                label=Label("b2", "b₂", "$b_2$"),
                least_n_eff=1000.0,
            ),
        )


@dataclass(frozen=True)
class WilsonLoop(Observable):
    """The mean of cos of the r x t loops over the lattice and both orientations.

    If the loops that are shorter by one are measured too, the Creutz ratio
    -log(W(r,t) W(r-1,t-1) / (W(r,t-1) W(r-1,t))) (Creutz, Phys. Rev. Lett. 45 (1980) 313) is estimated for r, t >= 2;
    it is not a number if noise makes a loop zero or negative.

    Raises ValueError for r or t below 1.
    """

    kind: ClassVar[str] = "wilson_loop"
    flowable: ClassVar[bool] = True
    r: int
    t: int

    def __post_init__(self) -> None:
        if not (1 <= self.r <= _LONGEST and 1 <= self.t <= _LONGEST):
            raise ValueError(f"a Wilson loop needs 1 <= r, t <= {_LONGEST}, got r = {self.r}, t = {self.t}")
        if self.r > self.t:  # the mean over both orientations does not tell r from t: one name for one number
            r, t = self.t, self.r
            object.__setattr__(self, "r", r)
            object.__setattr__(self, "t", t)

    @property
    def name(self) -> str:
        return _loop(self.r, self.t)

    def __call__(self, x: Array) -> Array:
        loops = fields.mean_wilson_loop(x, self.r, self.t)
        return loops if self.r == self.t else 0.5 * (loops + fields.mean_wilson_loop(x, self.t, self.r))

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        r, t = self.r, self.t
        # Beyond the lattice the loop covers plaquettes twice, and the closed form is another one.
        fits = t <= min(lattice_shape)
        exact = closed_form("rectangular_loop", r, t)
        loops = [closed_form("rectangular_loop", *sides) for sides in creutz_loops(r, t)]

        def exact_ratio(oracle: Any) -> float | None:
            known = [loop(oracle) for loop in loops]
            return None if None in known else _creutz_ratio(*known)

        label = Label(f"W({r}x{t})", f"W({r}×{t})", rf"$W_{{{r}\times{t}}}$")
        loop = Quantity(self.name, (Term(self.name),), exact=exact if fits else None, label=label)
        if r < 2:
            return (loop,)
        terms = tuple(Term(_loop(a, b)) for a, b in creutz_loops(r, t))
        ratio = Label(f"Creutz({r}x{t})", f"Creutz({r}×{t})", rf"$\chi_{{{r}\times{t}}}$")
        exact_of_ratio = exact_ratio if fits else None
        return loop, Quantity(f"creutz_ratio_{r}x{t}", terms, _creutz_ratio, exact=exact_of_ratio, label=ratio)


def creutz_loops(r: int, t: int) -> tuple[tuple[int, int], ...]:
    """The sides of the four Wilson loops in the r x t Creutz ratio: two above the line, two below."""
    return (r, t), (r - 1, t - 1), (r, t - 1), (r - 1, t)


def creutz_ratio(r: int, t: int) -> tuple[Observable, ...]:
    """The Wilson loops in the r x t Creutz ratio.

    Raises ValueError for r or t below 2.
    """
    if min(r, t) < 2:
        raise ValueError(f"a Creutz ratio needs r, t >= 2, got r = {r}, t = {t}")
    return tuple(dict.fromkeys(WilsonLoop(*sides) for sides in creutz_loops(r, t)))


def _loop(r: int, t: int) -> str:
    return f"wilson_loop_{min(r, t)}x{max(r, t)}"


def _creutz_ratio(large: float, small: float, flat: float, tall: float) -> float:
    if min(large, small, flat, tall) <= 0.0:
        return math.nan
    return math.log(flat) + math.log(tall) - math.log(large) - math.log(small)


@dataclass(frozen=True)
class PolyakovCorrelator(Observable):
    """The mean of cos(P_mu(x) - P_mu(x + distance)) of the Polyakov loops P_mu along axis mu.

    Raises ValueError for mu outside 0, 1 or a distance outside 0 ... 4096.
    """

    kind: ClassVar[str] = "polyakov_correlator"
    flowable: ClassVar[bool] = True
    mu: int
    distance: int

    def __post_init__(self) -> None:
        if self.mu not in (0, 1) or not 0 <= self.distance <= _FARTHEST:
            raise ValueError(
                f"mu must be 0 or 1 and 0 <= distance <= {_FARTHEST}, got mu = {self.mu}, distance = {self.distance}"
            )

    @property
    def name(self) -> str:
        return f"polyakov_correlator_{self.mu}_{self.distance}"

    def __call__(self, x: Array) -> Array:
        return fields.mean_polyakov_correlator(x, self.mu, self.distance)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        area = lattice_shape[self.mu] * (self.distance % lattice_shape[1 - self.mu])
        plain = f"P_{self.mu}({self.distance})"
        label = Label(plain, plain, f"${plain}$")
        return (Quantity(self.name, (Term(self.name),), exact=closed_form("wilson_loop", area), label=label),)


@dataclass(frozen=True)
class PolyakovLoop(Observable):
    """Re L, L the mean over positions of exp(i P_mu), P_mu the Polyakov loop along axis mu.

    Its mean is zero by the centre symmetry, which turns the phase of L.

    Raises ValueError for mu outside 0, 1.
    """

    kind: ClassVar[str] = "polyakov_loop"
    flowable: ClassVar[bool] = True
    odd = True
    mu: int

    def __post_init__(self) -> None:
        _check_axis(self.mu)

    @property
    def name(self) -> str:
        return f"polyakov_loop_{self.mu}"

    def __call__(self, x: Array) -> Array:
        return polyakov.mean_polyakov_loop(x, self.mu)[0]

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        plain = f"Re L_{self.mu}"
        label = Label(plain, plain, rf"$\mathrm{{Re}}\,L_{self.mu}$")
        return (Quantity(self.name, (Term(self.name),), exact=lambda oracle: 0.0, by_symmetry=True, label=label),)


@dataclass(frozen=True)
class PolyakovModulus(Observable):
    """|L|, L the mean over positions of exp(i P_mu), P_mu the Polyakov loop along axis mu.

    Estimated from it are <|L|> and <|L|^2>, which is the mean of the Polyakov correlators over all distances.

    Raises ValueError for mu outside 0, 1.
    """

    kind: ClassVar[str] = "polyakov_modulus"
    flowable: ClassVar[bool] = True
    mu: int

    def __post_init__(self) -> None:
        _check_axis(self.mu)

    @property
    def name(self) -> str:
        return f"polyakov_modulus_{self.mu}"

    def __call__(self, x: Array) -> Array:
        return np.hypot(*polyakov.mean_polyakov_loop(x, self.mu))

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        length, n_loops, modulus = lattice_shape[self.mu], lattice_shape[1 - self.mu], f"|L_{self.mu}|"

        def exact(oracle: Any) -> float | None:
            known = [closed_form("wilson_loop", length * distance)(oracle) for distance in range(n_loops)]
            return None if None in known else sum(known) / n_loops

        return (
            Quantity(self.name, (Term(self.name),), label=Label(modulus, modulus, f"${modulus}$")),
            Quantity(
                f"polyakov_modulus_squared_{self.mu}",
                (Term(self.name, np.square),),
                exact=exact,
                label=Label(f"{modulus}^2", f"{modulus}²", f"${modulus}^2$"),
            ),
        )


def _check_axis(mu: int) -> None:
    if mu not in (0, 1):
        raise ValueError(f"mu must be 0 or 1, got mu = {mu}")


STANDARD: tuple[Observable, ...] = (Plaquette(), TopologicalCharge(), WilsonLoop(1, 2), WilsonLoop(2, 2))

NAMED: Mapping[str, NamedObservable] = {
    **{one.kind: one for one in (Plaquette, TopologicalCharge, WilsonLoop)},
    **{one.kind: one for one in (PolyakovCorrelator, PolyakovLoop, PolyakovModulus)},
    "creutz_ratio": creutz_ratio,
}
