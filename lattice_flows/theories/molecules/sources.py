"""Where a molecule comes from: AMBER files, or a PDB file with a force field. OpenMM is imported when one is built."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lattice_flows.regular_files import at_home, require_regular
from lattice_flows.theories.action import Unavailable

Array = NDArray[np.float64]

SOLVENTS = ("HCT", "OBC1", "OBC2", "GBn", "GBn2", "none")
"""The implicit solvents of OpenMM; "none" is a molecule in vacuum."""
_OBC_OFFSET = 0.009  # nm, between the radius of an atom and that of OpenMM's own OBC2

_WATER = 78.5
"""The dielectric constant of OpenMM's implicit solvents, where its own OBC2 alone would take 78.3."""


class Built(NamedTuple):
    """What OpenMM knows of a molecule: its `Topology`, its `System`, and positions (n_atoms, 3) in nm."""

    topology: Any
    system: Any
    positions: Array


class Source(Protocol):
    """What builds a molecule: equal sources share one engine."""

    def __hash__(self) -> int: ...

    def build(self) -> Built:
        """The molecule. Raises ValueError, in one line, for files that hold none."""


@dataclass(frozen=True)
class AmberFiles:
    """An AMBER topology (prmtop) and coordinates (crd, inpcrd or rst7), with an implicit solvent."""

    topology: str
    positions: str
    implicit_solvent: str

    def build(self) -> Built:
        """Without constraints and without a cutoff."""
        app, unit = openmm_app(), openmm().unit
        topology, coordinates = existing(self.topology), existing(self.positions)
        with told(self.topology):
            parameters = app.AmberPrmtopFile(topology)
            solvent = None if self.implicit_solvent == "none" else getattr(app, self.implicit_solvent)
            system = parameters.createSystem(nonbondedMethod=app.NoCutoff, rigidWater=False, implicitSolvent=solvent)
        with told(self.positions):
            found = app.AmberInpcrdFile(coordinates).getPositions(asNumpy=True)
        positions = np.array(found.value_in_unit(unit.nanometer), dtype=np.float64)
        if len(positions) != (wanted := system.getNumParticles()):
            raise ValueError(f"{self.positions}: holds {len(positions)} atoms, but {self.topology} has {wanted}")
        return Built(parameters.topology, system, positions)


@dataclass(frozen=True)
class PDBWithForceField:
    """A PDB file, to which missing hydrogens are added, with OpenMM's force field files and an implicit solvent."""

    topology: str
    force_field: tuple[str, ...]
    implicit_solvent: str

    def build(self) -> Built:
        """Without constraints and without a cutoff."""
        path = existing(self.topology)
        with told(self.topology), open(path) as file:
            found = openmm_app().PDBFile(file)
        return parametrised(self.topology, found.topology, found.positions, self.force_field, self.implicit_solvent)


def parametrised(
    name: str, topology: Any, positions: Any, force_field: tuple[str, ...], implicit_solvent: str
) -> Built:
    """The molecule of an OpenMM topology with positions of its heavy atoms at least; `name` begins each message."""
    app, unit = openmm_app(), openmm().unit
    solvent = [] if implicit_solvent == "none" else [f"implicit/{implicit_solvent.lower()}.xml"]
    with told(" ".join(force_field)):
        vacuum, forces = app.ForceField(*force_field), app.ForceField(*force_field, *solvent)
    with told(name), _same_numbers():
        model = app.Modeller(topology, positions)
        model.addHydrogens(vacuum, platform=openmm().Platform.getPlatformByName("Reference"))
        system = forces.createSystem(model.topology, nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False)
    if implicit_solvent == "OBC2":
        _replace_obc2(system)
    found = np.array(model.positions.value_in_unit(unit.nanometer), dtype=np.float64)
    return Built(model.topology, system, found)


@contextmanager
def _same_numbers() -> Iterator[None]:
    """OpenMM puts hydrogens at random places before it minimises: let them be the same ones in every process."""
    before = random.getstate()
    random.seed(1)
    try:
        yield
    finally:
        random.setstate(before)


def _replace_obc2(system: Any) -> None:
    """Put OpenMM's own OBC2 in the place of the same formula as an expression, which takes thirty times as long."""
    mm = openmm()
    (index,) = [k for k, one in enumerate(system.getForces()) if isinstance(one, mm.CustomGBForce)]
    formula, own = system.getForce(index), mm.GBSAOBCForce()
    for atom in range(formula.getNumParticles()):
        charge, radius, scaled = formula.getParticleParameters(atom)
        own.addParticle(charge, radius + _OBC_OFFSET, scaled / radius)
    own.setNonbondedMethod(mm.GBSAOBCForce.NoCutoff)
    own.setSolventDielectric(_WATER)
    system.removeForce(index)
    system.addForce(own)


def openmm() -> Any:
    """The package. Raises Unavailable where it is not installed."""
    try:
        import openmm.app  # its parts, too
    except ImportError:
        raise Unavailable("a molecule needs the package openmm: pip install -e '.[molecules]'") from None
    return openmm


def openmm_app() -> Any:
    """Its readers of files and builders of molecules."""
    return openmm().app


def existing(path: str) -> str:
    """The path of a file that somebody names, for OpenMM. Raises Unavailable if there is none."""
    try:
        require_regular(at_home(path))
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from None
    return str(at_home(path))


@contextmanager
def told(name: str) -> Iterator[None]:
    """Raise ValueError, in one line that begins with `name`, for whatever OpenMM raises for what it cannot read."""
    try:
        yield
    except Unavailable:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name}: {reason}") from None
