"""Energies and forces of a molecule by OpenMM, and what is known of its atoms."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lattice_flows.theories.molecules.sources import Built, Source, openmm
from lattice_flows.theories.molecules.z_matrix import ZMatrix, z_matrix

Array = NDArray[np.float64]

_TOLERANCE = 1.0  # kJ/mol/nm, the root mean square force at which the reference is a minimum
_FEWEST = 16  # configurations for which a thread more is worth its start


class Engine:
    """The potential energy of a molecule on OpenMM's Reference platform: double precision, the same bits every time.

    OpenMM takes one configuration at a time, but lets other threads run meanwhile: each has a context of its own.
    """

    def __init__(self, system: Any) -> None:
        self._system, self._own = system, threading.local()
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """U in kJ/mol, (B,), and the forces in kJ/mol/nm, (B, n_atoms, 3), at x (B, n_atoms, 3) in nm.

        Where atoms lie upon each other, or x is not finite, U is infinite and the force zero.
        """
        n_threads = min(torch.get_num_threads(), len(x) // _FEWEST)
        if n_threads < 2:
            return self._block(x)
        self._pool = self._pool or ThreadPoolExecutor()
        blocks = list(self._pool.map(self._block, np.array_split(x, n_threads)))
        return np.concatenate([u for u, _ in blocks]), np.concatenate([force for _, force in blocks])

    def minimised(self, x: Array) -> Array:
        """The nearest minimum of U from x (n_atoms, 3), its centroid at 0."""
        context = self._context
        context.setPositions(x)
        openmm().LocalEnergyMinimizer.minimize(context, _TOLERANCE)
        found = context.getState(getPositions=True).getPositions(asNumpy=True)._value
        return found - found.mean(0)

    @property
    def _context(self) -> Any:
        """That of this thread."""
        if not hasattr(self._own, "context"):
            mm = openmm()
            platform = mm.Platform.getPlatformByName("Reference")
            self._own.context = mm.Context(self._system, mm.VerletIntegrator(0.001), platform)
        return self._own.context

    def _block(self, x: Array) -> tuple[Array, Array]:
        context, forces = self._context, openmm().State.Forces
        u, force = np.full(len(x), np.inf), np.zeros(x.shape)
        x = np.ascontiguousarray(x, dtype=np.float64)  # as OpenMM reads it
        for k in np.flatnonzero(np.isfinite(x).all((1, 2))):
            context.setPositions(x[k])
            state = context.getState(getEnergy=True, getForces=True)
            u[k] = state.getPotentialEnergy()._value
            state._getVectorAsNumpy(forces, force[k])  # getForces takes a third of the time of the energy
        fine = np.isfinite(u) & np.isfinite(force).all((1, 2))
        u[~fine], force[~fine] = np.inf, 0.0
        return u, force


@dataclass(frozen=True, eq=False)
class Molecule:
    """What is known of a molecule: positions in nm, masses in dalton; atoms are numbered from 0."""

    engine: Engine
    elements: tuple[str, ...]
    atom_names: tuple[str, ...]
    residue_of: tuple[tuple[int, str], ...]
    """Of each atom: the number of its residue, from 0, and the residue's name."""
    bonds: tuple[tuple[int, int], ...]
    masses: tuple[float, ...]
    start: Array
    """The positions of the file, (n_atoms, 3), with those of added hydrogens."""

    @property
    def n_atoms(self) -> int:
        return len(self.elements)

    @cached_property
    def reference(self) -> Array:
        """A minimum of the energy near the positions of the file, (n_atoms, 3), its centroid at 0."""
        found = self.engine.minimised(self.start)
        found.flags.writeable = False
        return found

    @cached_property
    def reference_energy(self) -> float:
        """U of the reference in kJ/mol."""
        return float(self.engine(self.reference[None])[0][0])

    @cached_property
    def z_matrix(self) -> ZMatrix:
        """By which internal coordinates are defined. Raises ValueError for more than one molecule."""
        return z_matrix([element != "H" for element in self.elements], self.bonds)

    @cached_property
    def by_residue(self) -> tuple[dict[str, int], ...]:
        """The atoms of each residue by name."""
        found: list[dict[str, int]] = [{} for _ in range(self.residue_of[-1][0] + 1)]
        for atom, ((residue, _), name) in enumerate(zip(self.residue_of, self.atom_names)):
            found[residue][name] = atom
        return tuple(found)

    @cached_property
    def centres(self) -> NDArray[np.int64]:
        """The chiral centres of amino acids and three neighbours of each, (n, 4)."""
        found = []
        kinds = dict(self.residue_of)
        for number, residue in enumerate(self.by_residue):
            for names in (_ALPHA, *_BETA.get(kinds[number], ())):
                if all(name in residue for name in names):
                    found.append([residue[name] for name in names])
        return np.array(found, dtype=np.int64).reshape(-1, 4)

    @cached_property
    def _handedness(self) -> Array:
        return np.sign(_triple(self.reference[None], self.centres))

    def as_reference(self, x: Array) -> NDArray[np.bool_]:
        """Whether the chiral centres of x (B, n_atoms, 3) have the handedness of the reference, (B,).

        Not where x is not finite.
        """
        right: NDArray[np.bool_] = np.all(_triple(x, self.centres) * self._handedness > 0, axis=1)
        return right


_ALPHA = ("CA", "N", "C", "CB")
_BETA = {"ILE": (("CB", "CA", "CG1", "CG2"),), "THR": (("CB", "CA", "OG1", "CG2"),)}


def _triple(x: Array, centres: NDArray[np.int64]) -> Array:
    """The triple product of the bonds from each centre to its neighbours, (B, n)."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.linalg.det(x[:, centres[:, 1:]] - x[:, centres[:, :1]])  # of (B, n, 3, 3)


@cache
def molecule(source: Source) -> Molecule:
    """The molecule of this source, built once in a process. Raises ValueError for files that hold none."""
    built = source.build()
    atoms = list(built.topology.atoms())
    return Molecule(
        Engine(built.system),
        elements=tuple(atom.element.symbol for atom in atoms),
        atom_names=tuple(atom.name for atom in atoms),
        residue_of=tuple((atom.residue.index, atom.residue.name) for atom in atoms),
        bonds=tuple((one.index, other.index) for one, other in built.topology.bonds()),
        masses=_masses(built),
        start=built.positions,
    )


def _masses(built: Built) -> tuple[float, ...]:
    return tuple(built.system.getParticleMass(k)._value for k in range(built.system.getNumParticles()))
