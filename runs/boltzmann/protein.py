"""A protein of a PDB file as a target: hydrogens, minimum, forces, internal coordinates, and what an energy costs.

    python runs/boltzmann/protein.py protein.pdb

It reads the file with amber14 and OBC2, adds missing hydrogens, minimises, and prints what it found. Forces are held
against five-point differences of S along random directions, and positions against those that come back from bonds,
angles and torsions.
"""

import argparse
import time

import numpy as np
import torch

from lattice_flows.errors import InputError
from lattice_flows.exit_status import run_as_command
from lattice_flows.flows import InternalCoordinates
from lattice_flows.kernels.random import make_streams
from lattice_flows.theories import OpenMMSystem

_STEP = 1e-5  # nm
_DIRECTIONS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pdb", help="a file with all heavy atoms")
    parser.add_argument("--force-field", nargs="+", default=["amber14-all.xml"], help="OpenMM's files, or your own")
    parser.add_argument("--implicit-solvent", default="OBC2")
    parser.add_argument("--temperature", type=float, default=300.0, help="in K")
    given = parser.parse_args()
    try:
        force_field = tuple(given.force_field)
        action = OpenMMSystem(given.pdb, None, force_field, given.implicit_solvent, given.temperature)
        _tell(action)
    except ValueError as error:
        raise InputError(str(error)) from None


def _tell(action: OpenMMSystem) -> None:
    begun = time.perf_counter()
    residues = dict(action.residue_of)
    hydrogens = action.elements.count("H")
    print(f"{len(residues)} residues, {action.n_atoms} atoms, {hydrogens} of them hydrogens, {len(action.bonds)} bonds")
    print(f"disulfide bonds: {_disulfides(action)}; chiral centres: {len(action.molecule.centres)}")
    print(f"read in {time.perf_counter() - begun:.1f} s", flush=True)
    begun = time.perf_counter()
    energy = action.molecule.reference_energy
    print(f"minimum: U = {energy:.1f} kJ/mol, S = {action.reference_action:.1f}, {time.perf_counter() - begun:.1f} s")
    error, seconds = _force_error(action)
    print(f"force against differences of S: relative error {error:.1e}; {1e3 * seconds:.1f} ms for an S with its force")
    error = _round_trip(action)
    print(f"internal coordinates: {action.molecule.z_matrix.proper.sum()} torsions, {error:.1e} nm after both ways")


def _round_trip(action: OpenMMSystem) -> float:
    """The largest change of a coordinate on the way to internal coordinates and back, from hot starts, in nm."""
    transform = InternalCoordinates(action.molecule.z_matrix)
    start, _ = action.hot(make_streams(1, "start", range(_DIRECTIONS)), (action.n_atoms, 3))
    x = torch.from_numpy(start)
    return float((transform.forward(transform.inverse(x)[0])[0] - x).abs().max())


def _disulfides(action: OpenMMSystem) -> int:
    names = action.atom_names
    return sum(names[one] == names[other] == "SG" for one, other in action.bonds)


def _force_error(action: OpenMMSystem) -> tuple[float, float]:
    """The largest error of the slope of S along random directions from a hot start, relative to the force's size, and
    the seconds that an S with its force takes."""
    start, _ = action.hot(make_streams(1, "start", range(1)), (action.n_atoms, 3))
    directions = np.random.default_rng(1).normal(size=(_DIRECTIONS, action.n_atoms, 3))
    directions /= np.linalg.norm(directions, axis=(1, 2), keepdims=True)
    force = action.force(torch.from_numpy(start)).numpy()
    begun = time.perf_counter()
    near, far = (
        action.evaluate(start + k * _STEP * directions) - action.evaluate(start - k * _STEP * directions)
        for k in (1, 2)
    )
    seconds = (time.perf_counter() - begun) / (4 * _DIRECTIONS)
    slopes = (8 * near - far) / (12 * _STEP)
    wanted = -(force * directions).sum((1, 2))
    return float(np.abs(slopes - wanted).max() / np.abs(wanted).max()), seconds


if __name__ == "__main__":
    run_as_command(main)
