"""A molecule at a temperature: S = U / k_B T of the positions of its atoms, with OpenMM's U."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels.random import normals
from lattice_flows.lattice import REAL, Space
from lattice_flows.theories.action import Action, Array, Field, NamedObservable, Shape, Streams
from lattice_flows.theories.molecules.engine import Molecule, molecule
from lattice_flows.theories.molecules.observables import NAMED, standard
from lattice_flows.theories.molecules.peptides import Sequence
from lattice_flows.theories.molecules.sources import SOLVENTS, AmberFiles, PDBWithForceField, Source
from lattice_flows.theories.observable import Observable

GAS_CONSTANT = 0.00831446261815324  # kJ/mol/K, of the SI
SPRING = 250.0
"""On the centroid of a molecule, kJ/mol/nm^2: at 300 K each of its coordinates has a width of 0.1 nm."""
_FILES = Path(__file__).parent / "data" / "alanine-dipeptide"
_ALANINE_DIPEPTIDE = AmberFiles(str(_FILES.with_suffix(".prmtop")), str(_FILES.with_suffix(".crd")), "OBC2")
_DISPLACEMENT = 0.002  # nm, in a hot start: about that of a bond at 300 K


class MolecularAction(Action):
    """S(x) = [U(x) + K |c|^2 / 2] / (k_B T) of the atoms' positions x (B, n_atoms, 3) in nm, c their unweighted mean.

    Without the spring K on the centroid the density could not be normalised. It leaves the distribution of everything
    within the molecule as it is, and is a known factor of Z: (2 pi k_B T / K)^(3/2), beside 8 pi^2 of the rotations.

    The target is the molecule of the handedness that the reference has, S is infinite at its mirror images: U alone
    cannot tell them apart. It is also infinite where atoms lie upon each other. Any force there is that of U.
    """

    temperature: float
    space: ClassVar[Space] = REAL
    dimensions: ClassVar[range] = range(1)
    symbols: ClassVar[Mapping[str, str]] = {"temperature": "T"}
    first_length: ClassVar[float] = 0.1  # nm; bonds allow steps of 0.005, and the number of steps has a limit
    named_observables: ClassVar[Mapping[str, NamedObservable]] = NAMED

    @property
    @abstractmethod
    def source(self) -> Source:
        """Where the molecule comes from."""

    @property
    def molecule(self) -> Molecule:
        """Its atoms and its engine, which equal sources share, made when first asked for.

        Raises ValueError where its files cannot be read.
        """
        return molecule(self.source)

    @property
    def n_atoms(self) -> int:
        return self.molecule.n_atoms

    @property
    def elements(self) -> tuple[str, ...]:
        """The symbol of each atom's element."""
        return self.molecule.elements

    @property
    def atom_names(self) -> tuple[str, ...]:
        """As in the file: CA is an alpha carbon."""
        return self.molecule.atom_names

    @property
    def residue_of(self) -> tuple[tuple[int, str], ...]:
        """Of each atom: the number of its residue, from 0, and the residue's name."""
        return self.molecule.residue_of

    @property
    def bonds(self) -> tuple[tuple[int, int], ...]:
        """Pairs of atoms."""
        return self.molecule.bonds

    @property
    def masses(self) -> tuple[float, ...]:
        """In dalton. The trajectories of samplers have unit masses."""
        return self.molecule.masses

    @property
    def reference(self) -> Array:
        """A minimum of U near the positions of the file, (n_atoms, 3), its centroid at 0."""
        return self.molecule.reference

    @property
    def reference_action(self) -> float:
        """S of the reference."""
        return self.molecule.reference_energy / self.kt

    @property
    def kt(self) -> float:
        """k_B T in kJ/mol."""
        return GAS_CONSTANT * self.temperature

    @property
    def centroid_width(self) -> float:
        """The standard deviation of each coordinate of the centroid, in nm."""
        return math.sqrt(self.kt / SPRING)

    def field(self, lattice_shape: Shape) -> FieldSpec:
        """The positions of the atoms. Raises ValueError where the molecule's files cannot be read."""
        if lattice_shape:
            raise ValueError(f"{type(self).__name__} has no lattice, got the shape {list(lattice_shape)}")
        return FieldSpec("x", ("atom", "coordinate"), (self.n_atoms, 3))

    def observables(self, lattice_shape: Shape) -> tuple[Observable, ...]:
        """U, and phi and psi of every residue that has them."""
        return standard(self)

    def potential_energy(self, x: Array) -> Array:
        """U in kJ/mol of each configuration (N, n_atoms, 3) -> (N,)."""
        return self.molecule.engine(x)[0]

    def evaluate(self, x: Field) -> Array:
        """By OpenMM."""
        return self._with_force(x)[0]

    def __call__(self, x: Tensor) -> Tensor:
        return _Energy.apply(x, self)

    def force(self, x: Tensor) -> Tensor:
        """By OpenMM."""
        return torch.from_numpy(self._either_hand(_numbers(x))[1]).to(x)

    def with_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """By OpenMM."""
        s, force = self._with_force(_numbers(x))
        return torch.from_numpy(s).to(x.device), torch.from_numpy(force).to(x)

    def _with_force(self, x: Array) -> tuple[Array, Array]:
        """S (B,) and -dS/dx of x (B, n_atoms, 3)."""
        s, force = self._either_hand(x)
        s[~self.molecule.as_reference(x)] = np.inf
        return s, force

    def _either_hand(self, x: Array) -> tuple[Array, Array]:
        """As `_with_force`, but finite for mirror images, too."""
        u, force = self.molecule.engine(x)
        with np.errstate(invalid="ignore", over="ignore"):  # in configurations that are refused
            centroid = x.mean(1)  # (B, 3)
            s = (u + 0.5 * SPRING * (centroid * centroid).sum(1)) / self.kt
            force = (force - (SPRING / self.n_atoms) * centroid[:, None]) / self.kt
        refused = ~np.isfinite(s)
        s[refused], force[refused] = np.inf, 0.0
        return s, force

    def hot(self, streams: Streams, event: Shape) -> tuple[Field, Streams]:
        """The reference turned at random, each atom displaced a little."""
        numbers, streams = normals(streams, 4 + math.prod(event))
        turned = self.reference @ _rotations(numbers[:, :4])  # (B, n_atoms, 3)
        return turned + _DISPLACEMENT * numbers[:, 4:].reshape(-1, *event), streams

    def cold(self, event: Shape) -> Field:
        """The reference."""
        return self.reference.copy()

    def multiple_of(self, other: Action) -> float | None:
        """The inverse ratio of the temperatures, for the same molecule."""
        return other.temperature / self.temperature if _of_same_molecule(other, self) else None

    def scaled(self, factor: float) -> Action:
        """At the temperature T / factor."""
        return self._at(factor / self.temperature) if factor > 0 else super().scaled(factor)

    def toward(self, other: Action, t: float) -> Action:
        """For the same molecule: at the temperature whose inverse lies between the two."""
        if _of_same_molecule(other, self) and 0 <= t <= 1:
            return self._at((1.0 - t) / self.temperature + t / other.temperature)
        return super().toward(other, t)

    def _at(self, inverse_temperature: float) -> Action:
        return replace(self, temperature=1.0 / inverse_temperature)  # type: ignore[type-var]


class _Energy(torch.autograd.Function):
    """S with the derivative that came with it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, action: MolecularAction) -> Tensor:
        s, force = action._with_force(_numbers(x))
        ctx.save_for_backward(torch.from_numpy(force).to(x))
        return torch.from_numpy(s).to(x.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (force,) = ctx.saved_tensors
        slope = gradient.to(force)[:, None, None]
        # The force may be infinite in single precision, where what damps S has no slope.
        return torch.where(slope == 0, 0.0, -slope * force), None


@dataclass(frozen=True)
class OpenMMSystem(MolecularAction):
    """Any molecule of AMBER files, or of a PDB file with a force field, without constraints and without a cutoff.

    topology: a file, .prmtop or .parm7 of AMBER, or .pdb, to which missing hydrogens are added.
    positions: for AMBER files, the coordinates: .crd, .inpcrd or .rst7.
    force_field: for a PDB file, OpenMM's force field files or one's own.
    implicit_solvent: "HCT", "OBC1", "OBC2", "GBn", "GBn2", or "none" for vacuum. OBC2 is thirty times faster than the
    others, which OpenMM computes from expressions.
    temperature: in K.

    Paths are those from the folder where a command is given. The files are read when the molecule is first needed.

    Raises ValueError for a temperature that is not positive, and for keys that do not fit the kind of file.
    """

    topology: str
    positions: str | None = None
    force_field: tuple[str, ...] = ()
    implicit_solvent: str = "OBC2"
    temperature: float = 300.0
    title: ClassVar[str] = "molecule"

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_solvent(self.implicit_solvent)
        if Path(self.topology).suffix == ".pdb":
            if self.positions is not None:
                raise ValueError("positions: a PDB file holds them; leave the key out")
            check_force_field(self.force_field)
        elif Path(self.topology).suffix in (".prmtop", ".parm7"):
            if self.positions is None:
                raise ValueError("positions is missing: an AMBER topology needs a file .crd, .inpcrd or .rst7")
            if self.force_field:
                raise ValueError("force_field: an AMBER topology holds it; leave the key out")
        else:
            raise ValueError(f"topology must be a file .prmtop, .parm7 or .pdb, got {self.topology!r}")

    @property
    def source(self) -> Source:
        if self.positions is not None:
            return AmberFiles(self.topology, self.positions, self.implicit_solvent)
        return PDBWithForceField(self.topology, tuple(self.force_field), self.implicit_solvent)


@dataclass(frozen=True)
class AlanineDipeptide(MolecularAction):
    """ACE-ALA-NME, 22 atoms, in AMBER ff96 with the implicit solvent OBC2.

    temperature: in K. Raises ValueError for one that is not positive.
    """

    temperature: float = 300.0
    title: ClassVar[str] = "alanine dipeptide"

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    @property
    def source(self) -> Source:
        return _ALANINE_DIPEPTIDE


def _of_same_molecule(other: Action, one: MolecularAction) -> TypeGuard[MolecularAction]:
    return isinstance(other, MolecularAction) and other.source == one.source


@dataclass(frozen=True)
class Peptide(MolecularAction):
    """A peptide from its sequence, between the caps ACE and NME, without constraints and without a cutoff.

    sequence: one-letter codes, such as "AAAAA".
    force_field, implicit_solvent, temperature: as those of `OpenMMSystem`.

    Raises ValueError for a sequence that is none, and for a temperature that is not positive.
    """

    sequence: str
    force_field: tuple[str, ...] = ("amber14-all.xml",)
    implicit_solvent: str = "OBC2"
    temperature: float = 300.0
    title: ClassVar[str] = "peptide"

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_solvent(self.implicit_solvent)
        check_force_field(self.force_field)
        self.source  # noqa: B018  (checks the sequence)

    @property
    def source(self) -> Source:
        return Sequence(self.sequence, tuple(self.force_field), self.implicit_solvent)


def check_solvent(name: str) -> None:
    """Raise ValueError for a name that is none."""
    if name not in SOLVENTS:
        raise ValueError(f"implicit_solvent must be one of {', '.join(SOLVENTS)}, got {name!r}")


def check_force_field(files: tuple[str, ...]) -> None:
    """Raise ValueError for no files, and for one of a solvent, which has a key of its own."""
    if not files:
        raise ValueError("force_field must name one file or more, such as amber14-all.xml")
    if own := [one for one in files if one.startswith("implicit/")]:
        raise ValueError(f"force_field: leave {own[0]!r} out, and name the solvent by implicit_solvent")


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless it is positive and finite."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be > 0, got {temperature}")


def _numbers(x: Tensor) -> Array:
    return x.detach().cpu().double().numpy()


def _rotations(quaternions: Array) -> NDArray[np.float64]:
    """The rotation of each of these quaternions (B, 4) of any length but 0, (B, 3, 3)."""
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)
