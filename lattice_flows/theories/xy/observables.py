"""Observables of planar spins (N, L0, L1)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lattice_flows.kernels.links import derivatives_by_axis
from lattice_flows.theories.action import Action, NamedObservable
from lattice_flows.theories.observable import Array, Label, Observable, Quantity, Term
from lattice_flows.theories.xy.kernels import fields
from lattice_flows.theories.xy.kernels.links import Cosine, Images


def _couplings(action: Action) -> Cosine | Images:
    couplings = action.kernel_couplings(())
    assert isinstance(couplings, Cosine | Images)
    return couplings


def _derivatives(action: Action, x: Array) -> Array:
    """dV/dd, d^2V/dd^2 and dV/dbeta, means over the links along each axis, (N, 2, 3)."""
    return derivatives_by_axis(_couplings(action), x) / x[0].size


@dataclass(frozen=True)
class Energy(Observable):
    """The energy per site, -(1/V) d log Z / d beta: in the XY model minus the cosines of a site's two links."""

    kind: ClassVar[str] = "energy"
    label: ClassVar[Label] = Label("E/V", "E/V", "$E/V$")
    drawn: ClassVar[bool] = True
    action: Action

    name = "energy"

    def __call__(self, x: Array) -> Array:
        return _derivatives(self.action, x)[:, :, 2].sum(1)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        """Villain's energy of a configuration depends on beta itself."""
        of_couplings = not isinstance(_couplings(self.action), Cosine)
        return (replace(*super().quantities(lattice_shape), of_couplings=of_couplings),)


@dataclass(frozen=True)
class HelicityModulus(Observable):
    """How log Z answers to a twist a of every link along an axis, -(1/V) d^2 log Z / da^2, the mean over both axes.

    It is <sum V''> / V - <(sum V')^2> / V, the sums over the links along the axis (Teitel and Jayaprakash, Phys. Rev. B
    27 (1983) 598, for V = -beta cos), and jumps from 2/pi to zero at the transition of an infinite lattice (Nelson and
    Kosterlitz, Phys. Rev. Lett. 39 (1977) 1201). Theirs is in units of J, this one in units of the temperature.
    """

    kind: ClassVar[str] = "helicity_modulus"
    label: ClassVar[Label] = Label("Y", "Υ", r"$\Upsilon$")
    drawn: ClassVar[bool] = True
    action: Action

    name = "helicity_modulus"

    def __call__(self, x: Array) -> Array:
        means = _derivatives(self.action, x)
        return (means[:, :, 1] - x[0].size * means[:, :, 0] ** 2).mean(1)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        """What is measured depends on beta itself."""
        return (replace(*super().quantities(lattice_shape), of_couplings=True),)


@dataclass(frozen=True)
class Magnetisation(Observable):
    """|m|, m = (1/V) sum exp(i theta).

    Estimated from it are <|m|>, the susceptibility chi = V <|m|^2>, from clusters too where there are any, and the
    Binder cumulant 1 - <|m|^4> / (2 <|m|^2>^2), which is zero for a Gaussian distribution in the plane.
    """

    kind: ClassVar[str] = "abs_magnetisation"
    label: ClassVar[Label] = Label("|m|", "|m|", "$|m|$")
    drawn: ClassVar[bool] = True

    def __call__(self, x: Array) -> Array:
        return fields.modulus(x)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        volume, chi = math.prod(lattice_shape), Label("chi", "χ", r"$\chi$")
        improved = Label("chi (clusters)", "χ (clusters)", r"$\chi$ (clusters)")
        square, fourth = Term(self.name, np.square), Term(self.name, lambda series: series**4)
        return (
            *super().quantities(lattice_shape),
            Quantity("susceptibility", (square,), lambda m2: volume * m2, label=chi),
            Quantity("improved_susceptibility", (Term("improved_susceptibility"),), label=improved, of_updates=True),
            Quantity(
                "binder_cumulant",
                (fourth, square),
                lambda m4, m2: 1.0 - m4 / (2.0 * m2**2),
                label=Label("U", "U", "$U$"),
            ),
        )


@dataclass(frozen=True)
class VortexDensity(Observable):
    """The vortices and antivortices per site: plaquettes around which the wrapped differences do not add up to zero."""

    kind: ClassVar[str] = "vortex_density"
    label: ClassVar[Label] = Label("n_v", "n_v", r"$n_\mathrm{v}$")
    drawn: ClassVar[bool] = True

    def __call__(self, x: Array) -> Array:
        return fields.vortex_density(x)


NAMED: Mapping[str, NamedObservable] = {
    one.kind: one for one in (Energy, Magnetisation, HelicityModulus, VortexDensity)
}
