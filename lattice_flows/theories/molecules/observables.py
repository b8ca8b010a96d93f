"""Observables of molecules: the potential energy, torsions, and what is averaged of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from lattice_flows.errors import InputError
from lattice_flows.theories.molecules.engine import Molecule
from lattice_flows.theories.observable import Array, Label, Observable, Quantity, Term

Atoms = tuple[int, int, int, int]


class Molecular(Protocol):
    """What these observables ask of an action."""

    @property
    def molecule(self) -> Molecule:
        """Its atoms."""

    def potential_energy(self, x: Array) -> Array:
        """U in kJ/mol, (N,)."""


@dataclass(frozen=True)
class PotentialEnergy(Observable):
    """U in kJ/mol, without the spring on the centroid."""

    kind: ClassVar[str] = "potential_energy"
    name = "potential_energy"
    label: ClassVar[Label] = Label("U [kJ/mol]", "U [kJ/mol]", r"$U$ [kJ/mol]")
    drawn: ClassVar[bool] = True
    action: Molecular

    def __call__(self, x: Array) -> Array:
        return self.action.potential_energy(x)


@dataclass(frozen=True)
class Dihedral(Observable):
    """The torsion of four atoms, numbered from 0, in [-pi, pi): 0 is cis, and a positive one turns clockwise.

    As a mean of angles means nothing, those of its cosine and its sine are estimated. Raises ValueError for atoms that
    are not four different ones.
    """

    kind: ClassVar[str] = "dihedral"
    drawn: ClassVar[bool] = True
    atoms: Atoms

    def __post_init__(self) -> None:
        if len(set(self.atoms)) != 4 or min(self.atoms) < 0:
            raise ValueError(f"atoms must be four different numbers from 0, got {list(self.atoms)}")

    @property
    def name(self) -> str:
        return "_".join(["dihedral", *map(str, self.atoms)])

    def __call__(self, x: Array) -> Array:
        """Raises InputError if the molecule has no such atoms."""
        if max(self.atoms) >= x.shape[1]:
            raise InputError(
                f"the dihedral of {list(self.atoms)}: the molecule has only the atoms 0 to {x.shape[1] - 1}"
            )
        return dihedral(x, self.atoms)

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        return _of_angle(self.name)


@dataclass(frozen=True)
class _Backbone(Observable):
    """A torsion of a peptide's backbone.

    residue: the residue's number, from 0; may be left out where only one residue has such a torsion.
    """

    drawn: ClassVar[bool] = True
    action: Molecular
    residue: int | None = None

    @property
    def name(self) -> str:
        return self.kind if self.residue is None else f"{self.kind}_{self.residue}"

    def __call__(self, x: Array) -> Array:
        """Raises InputError if there is no such residue, or several and none is named."""
        found = backbone(self.action.molecule, self.kind)
        if (self.residue is None and len(found) != 1) or (self.residue is not None and self.residue not in found):
            raise InputError(f"{self.kind} is one of the residues {', '.join(map(str, found))}, got {self.residue}")
        residue = next(iter(found)) if self.residue is None else self.residue
        return dihedral(x, found[residue])

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        return _of_angle(self.name)


@dataclass(frozen=True)
class Phi(_Backbone):
    """phi, the torsion C'-N-CA-C, and the probability that it is positive: that of left-handed helices."""

    kind: ClassVar[str] = "phi"

    def quantities(self, lattice_shape: tuple[int, ...]) -> tuple[Quantity, ...]:
        label = Label(f"P({self.name} > 0)", f"P({self.name} > 0)", rf"$P(\phi{_index(self.residue)} > 0)$")
        return (Quantity(f"{self.name}_positive", (Term(self.name, _positive),), label=label), *_of_angle(self.name))


@dataclass(frozen=True)
class Psi(_Backbone):
    """psi, the torsion N-CA-C-N'."""

    kind: ClassVar[str] = "psi"


def dihedral(x: Array, atoms: Atoms) -> Array:
    """The torsion of four atoms of x (N, n_atoms, 3), in [-pi, pi), (N,); signs are those of IUPAC.

    Eur. J. Biochem. 17 (1970) 193, rule 3.1.
    """
    first, second, third, fourth = (x[:, atom] for atom in atoms)
    axis = third - second
    axis = axis / np.linalg.norm(axis, axis=1, keepdims=True)
    across = np.cross(first - second, axis)  # both at right angles to the axis
    along = np.cross(fourth - third, axis)
    angle = np.arctan2((np.cross(across, along) * axis).sum(1), (across * along).sum(1))
    return np.where(angle >= math.pi, -math.pi, angle)


def backbone(molecule: Molecule, kind: str) -> dict[int, Atoms]:
    """The atoms of phi or psi of each residue that has it."""
    bonded = {frozenset(pair) for pair in molecule.bonds}
    found = {}
    residues = molecule.by_residue
    for number, here in enumerate(residues):
        beside = number - 1 if kind == "phi" else number + 1
        if not ({"N", "CA", "C"} <= here.keys() and 0 <= beside < len(residues)):
            continue
        other = residues[beside].get("C" if kind == "phi" else "N")
        if other is None or frozenset((other, here["N" if kind == "phi" else "C"])) not in bonded:
            continue
        own = here["N"], here["CA"], here["C"]
        found[number] = (other, *own) if kind == "phi" else (*own, other)
    return found


def standard(action: Molecular) -> tuple[Observable, ...]:
    """U, and phi and psi of every residue that has them."""
    angles: list[Observable] = []
    for one in (Phi, Psi):
        residues = list(backbone(action.molecule, one.kind))
        angles += [one(action)] if len(residues) == 1 else [one(action, residue) for residue in residues]
    return PotentialEnergy(action), *angles


def _of_angle(name: str) -> tuple[Quantity, ...]:
    """Its mean cosine and sine."""
    return Quantity(f"{name}_cos", (Term(name, np.cos),)), Quantity(f"{name}_sin", (Term(name, np.sin),))


def _positive(series: Array) -> NDArray[np.float64]:
    return (series > 0).astype(np.float64)


def _index(residue: int | None) -> str:
    return "" if residue is None else f"_{{{residue}}}"


NAMED: Mapping[str, type[Observable]] = {one.kind: one for one in (PotentialEnergy, Dihedral, Phi, Psi)}
