"""Observables of a scalar field (N, *lattice_shape) in any dimension."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lattice_flows.theories.action import NamedObservable
from lattice_flows.theories.observable import Array, Label, Observable, Quantity, Term, closed_form
from lattice_flows.theories.phi4.kernels import fields

_FARTHEST = 4096
_NEAR = 4  # lattice spacings of the two-point function that are always measured


def _square(series: Array) -> Array:
    return series**2


def _fourth_power(series: Array) -> Array:
    return series**4


def _label(symbol: str) -> Label:
    return Label(symbol, symbol, f"${symbol}$")


@dataclass(frozen=True)
class Magnetisation(Observable):
    """M, the mean of phi over the lattice.

    Estimated from it are <M>, <|M|>, the susceptibility V <M^2>, the connected one V (<M^2> - <|M|>^2), and the Binder
    cumulant 1 - <M^4> / (3 <M^2>^2); the second and the last also from the estimators of cluster updates, where there
    are any: the series improved_susceptibility and improved_fourth_moment (<M^4>).
    """

    kind: ClassVar[str] = "magnetisation"
    odd = True
    drawn = True
    name = "magnetisation"

    def __call__(self, x: Array) -> Array:
        return fields.magnetisation(x)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        volume = math.prod(lattice_shape)
        mean, modulus, square = Term(self.name), Term(self.name, np.abs), Term(self.name, _square)
        return (
            Quantity("magnetisation", (mean,), exact=lambda oracle: 0.0, by_symmetry=True, label=_label("M")),
            Quantity("abs_magnetisation", (modulus,), exact=closed_form("abs_magnetisation"), label=_label("|M|")),
            Quantity(
                "susceptibility",
                (Term(self.name, lambda series: volume * series**2),),
                exact=closed_form("susceptibility"),
                label=Label("chi", "χ", r"$\chi$"),
            ),
            Quantity(
                "connected_susceptibility",
                (square, modulus),
                lambda m2, abs_m: volume * (m2 - abs_m**2),
                exact=closed_form("connected_susceptibility"),
                label=Label("chi_c", "χ_c", r"$\chi_\mathrm{c}$"),
            ),
            Quantity(
                "binder_cumulant",
                (Term(self.name, _fourth_power), square),
                lambda m4, m2: 1.0 - m4 / (3.0 * m2**2),
                exact=closed_form("binder_cumulant"),
                label=_label("U"),
            ),
            *_improved(volume),
        )


def _improved(volume: int) -> tuple[Quantity, ...]:
    """From the estimators of cluster updates, which are means over the signs of the clusters."""
    susceptibility = Term("improved_susceptibility")
    return (
        Quantity(
            "improved_susceptibility",
            (susceptibility,),
            exact=closed_form("susceptibility"),
            label=Label("chi (clusters)", "χ (clusters)", r"$\chi$ (clusters)"),
            of_updates=True,
        ),
        Quantity(
            "improved_binder_cumulant",
            (Term("improved_fourth_moment"), susceptibility),
            lambda m4, chi: 1.0 - m4 / (3.0 * (chi / volume) ** 2),
            exact=closed_form("binder_cumulant"),
            label=Label("U (clusters)", "U (clusters)", "$U$ (clusters)"),
            of_updates=True,
        ),
    )


@dataclass(frozen=True)
class LinkEnergy(Observable):
    """The mean of phi(x) phi(x+mu) over sites and directions, the "Ising energy density" of arXiv:1904.12072."""

    kind: ClassVar[str] = "energy"
    name = "energy"

    def __call__(self, x: Array) -> Array:
        return fields.link_energy(x)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        return (Quantity("energy", (Term(self.name),), exact=closed_form("link_energy"), label=_label("E")),)


@dataclass(frozen=True)
class TwoPoint(Observable):
    """The zero-momentum two-point function C(t) = sum_x <phi(0, 0) phi(t, x)> at a distance t along axis 0.

    If the distances t - 1 and t + 1 are measured too, an effective mass arccosh((C(t-1) + C(t+1)) / (2 C(t))) is
    estimated; it is not a number if noise makes the argument less than 1.

    Raises ValueError for a distance outside 0 ... 4096.
    """

    kind: ClassVar[str] = "two_point"
    distance: int

    def __post_init__(self) -> None:
        if not 0 <= self.distance <= _FARTHEST:
            raise ValueError(f"the distance must be between 0 and {_FARTHEST}, got {self.distance}")

    @property
    def name(self) -> str:
        return _two_point(self.distance)

    def __call__(self, x: Array) -> Array:
        return fields.time_slice_correlator(x, self.distance)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        t = self.distance
        two_point = Quantity(
            self.name, (Term(self.name),), exact=closed_form("time_slice_correlator", t), label=_label(f"C({t})")
        )
        if t % lattice_shape[0] == 0:
            return (two_point,)
        mass = Quantity(
            f"effective_mass_{t}",
            tuple(Term(_two_point(distance)) for distance in (t - 1, t, t + 1)),
            _effective_mass,
            exact=closed_form("effective_mass"),
            label=Label(f"m_eff({t})", f"m_eff({t})", rf"$m_\mathrm{{eff}}({t})$"),
        )
        return (two_point, mass)


def _two_point(distance: int) -> str:
    return f"two_point_{distance}"


def _effective_mass(before: float, here: float, after: float) -> float:
    cosh = (before + after) / (2.0 * here) if here else math.nan
    return math.acosh(cosh) if cosh >= 1.0 else math.nan


@dataclass(frozen=True)
class LowestMode(Observable):
    """F = |sum_x phi(x) exp(2 pi i x_mu / L_mu)|^2 / V, averaged over the axes mu.

    If the magnetisation is measured too, and all extents L are equal, the second-moment correlation length
    sqrt(chi / F - 1) / (2 sin(pi / L)) is estimated, chi = V <M^2>; it is not a number if chi < F.
    """

    kind: ClassVar[str] = "lowest_mode"
    name = "lowest_mode_squared"

    def __call__(self, x: Array) -> Array:
        return fields.lowest_mode_squared(x)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        mode = Quantity(self.name, (Term(self.name),), exact=closed_form("lowest_mode_squared"), label=_label("F"))
        if len(set(lattice_shape)) > 1:
            return (mode,)
        volume, extent = math.prod(lattice_shape), lattice_shape[0]

        def correlation_length(m2: float, lowest: float) -> float:
            ratio = volume * m2 / lowest if lowest else math.nan
            return math.sqrt(ratio - 1.0) / (2.0 * math.sin(math.pi / extent)) if ratio >= 1.0 else math.nan

        length = Quantity(
            "second_moment_correlation_length",
            (Term("magnetisation", _square), Term(self.name)),
            correlation_length,
            exact=closed_form("second_moment_correlation_length"),
            label=Label("xi", "ξ", r"$\xi$"),
        )
        return (mode, length)


def standard(lattice_shape: tuple[int, ...]) -> tuple[Observable, ...]:
    """The observables that every ensemble measures."""
    near = range(min(_NEAR, lattice_shape[0] // 2) + 1)
    return Magnetisation(), LinkEnergy(), LowestMode(), *map(TwoPoint, near)


NAMED: Mapping[str, NamedObservable] = {one.kind: one for one in (Magnetisation, LinkEnergy, LowestMode, TwoPoint)}
