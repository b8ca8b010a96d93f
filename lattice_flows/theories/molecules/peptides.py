"""Peptides from their sequence: extended, with standard bond lengths and angles; OpenMM adds the hydrogens."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lattice_flows.theories.molecules.sources import Built, openmm, openmm_app, parametrised

Array = NDArray[np.float64]

_NAMES = {
    "A": "ALA", "R": "ARG", "N": "ASN", "D": "ASP", "C": "CYS", "Q": "GLN", "E": "GLU", "G": "GLY", "H": "HIS",
    "I": "ILE", "L": "LEU", "K": "LYS", "M": "MET", "F": "PHE", "P": "PRO", "S": "SER", "T": "THR", "W": "TRP",
    "Y": "TYR", "V": "VAL",
}  # fmt: skip
_LONGEST = 100

# Each atom of a side chain: its name, the three placed before it (the last is its neighbour), the bond in nm, the angle
# and the torsion in degrees. Rough values: the minimum of the force field replaces them.
_CB = "CB C N CA .153 110 -122"
_CG = "CG N CA CB .153 113 180"
_RING = "CG N CA CB .150 114 180; CD1 CA CB CG .139 120 90; CD2 CA CB CG .139 120 -90; CE1 CB CG CD1 .139 120 180; " + (
    "CE2 CB CG CD2 .139 120 180; CZ CG CD1 CE1 .139 120 0"
)
_SIDE_CHAINS = {
    "G": "",
    "A": _CB,
    "S": f"{_CB}; OG N CA CB .142 111 180",
    "C": f"{_CB}; SG N CA CB .181 114 180",
    "V": f"{_CB}; CG1 N CA CB .153 110 180; CG2 N CA CB .153 110 -60",
    "T": f"{_CB}; OG1 N CA CB .143 109 60; CG2 N CA CB .153 111 -60",
    "I": f"{_CB}; CG1 N CA CB .153 110 60; CG2 N CA CB .153 110 -60; CD1 CA CB CG1 .153 114 180",
    "L": f"{_CB}; {_CG}; CD1 CA CB CG .153 110 60; CD2 CA CB CG .153 110 180",
    "M": f"{_CB}; {_CG}; SD CA CB CG .181 113 180; CE CB CG SD .179 101 180",
    "D": f"{_CB}; {_CG}; OD1 CA CB CG .125 118 0; OD2 CA CB CG .125 118 180",
    "N": f"{_CB}; {_CG}; OD1 CA CB CG .123 121 0; ND2 CA CB CG .133 117 180",
    "E": f"{_CB}; {_CG}; CD CA CB CG .153 113 180; OE1 CB CG CD .125 118 0; OE2 CB CG CD .125 118 180",
    "Q": f"{_CB}; {_CG}; CD CA CB CG .153 113 180; OE1 CB CG CD .123 121 0; NE2 CB CG CD .133 117 180",
    "K": f"{_CB}; {_CG}; CD CA CB CG .153 112 180; CE CB CG CD .153 112 180; NZ CG CD CE .149 112 180",
    "R": f"{_CB}; {_CG}; CD CA CB CG .153 112 180; NE CB CG CD .146 112 180; CZ CG CD NE .133 124 180; "
    "NH1 CD NE CZ .133 120 0; NH2 CD NE CZ .133 120 180",
    "F": f"{_CB}; {_RING}",
    "Y": f"{_CB}; {_RING}; OH CD1 CE1 CZ .138 120 180",
    "H": f"{_CB}; CG N CA CB .150 114 180; ND1 CA CB CG .138 123 90; CD2 CA CB CG .136 131 -90; "
    "CE1 CB CG ND1 .132 109 180; NE2 CB CG CD2 .137 107 180",
    "W": f"{_CB}; CG N CA CB .150 114 180; CD1 CA CB CG .137 127 90; CD2 CA CB CG .143 127 -90; "
    "NE1 CB CG CD1 .138 110 180; CE2 CB CG CD2 .141 107 180; CE3 CB CG CD2 .140 133 0; CZ2 CG CD2 CE2 .140 122 180; "
    "CZ3 CG CD2 CE3 .139 118 180; CH2 CD2 CE2 CZ2 .137 117 0",
    "P": "CB C N CA .153 103 -120; CG N CA CB .150 104 -30; CD CA CB CG .150 105 35",
}
_PHI, _PSI, _PHI_OF_PROLINE = -135.0, 135.0, -65.0


@dataclass(frozen=True)
class Sequence:
    """The peptide of this sequence of one-letter codes between the caps ACE and NME.

    Raises ValueError for an empty or a very long sequence, and for letters that are no amino acids.
    """

    sequence: str
    force_field: tuple[str, ...]
    implicit_solvent: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.sequence) <= _LONGEST:
            raise ValueError(f"sequence must have 1 to {_LONGEST} letters, got {len(self.sequence)}")
        if unknown := [letter for letter in self.sequence if letter not in _NAMES]:
            raise ValueError(f"sequence must be made of {''.join(sorted(_NAMES))}, got {unknown[0]!r}")

    def build(self) -> Built:
        """With the protonation states of pH 7."""
        app, unit = openmm_app(), openmm().unit
        topology = app.Topology()
        chain, positions = topology.addChain(), []
        for name, atoms in _heavy_atoms(self.sequence):
            residue = topology.addResidue(name, chain)
            for atom, at in atoms.items():
                topology.addAtom(atom, app.Element.getBySymbol(atom[0]), residue)
                positions.append(at)
        topology.createStandardBonds()
        return parametrised(
            self.sequence, topology, positions * unit.nanometer, self.force_field, self.implicit_solvent
        )


def _heavy_atoms(sequence: str) -> list[tuple[str, dict[str, Array]]]:
    """Of each residue, caps included: its name, and its heavy atoms with their positions in nm."""
    cap = {"CH3": np.zeros(3), "C": np.array([0.152, 0.0, 0.0])}
    n = _placed(np.array([0.0, 0.1, 0.0]), cap["CH3"], cap["C"], 0.1335, 116.0, 180.0)
    cap["O"] = _placed(n, cap["CH3"], cap["C"], 0.123, 121.0, 180.0)
    found = [("ACE", cap)]
    before, carbon = cap["CH3"], cap["C"]  # the two atoms before n
    for letter in sequence:
        here = {"N": n}
        here["CA"] = _placed(before, carbon, n, 0.146, 122.0, 180.0)
        here["C"] = _placed(carbon, n, here["CA"], 0.153, 111.0, _PHI_OF_PROLINE if letter == "P" else _PHI)
        n = _placed(here["N"], here["CA"], here["C"], 0.1335, 116.0, _PSI)
        here["O"] = _placed(here["N"], here["CA"], here["C"], 0.123, 121.0, _PSI + 180.0)
        for line in filter(None, _SIDE_CHAINS[letter].split("; ")):
            name, *others, bond, angle, torsion = line.split()
            a, b, c = (here[other] for other in others)
            here[name] = _placed(a, b, c, float(bond), float(angle), float(torsion))
        found.append((_NAMES[letter], here))
        before, carbon = here["CA"], here["C"]
    return [*found, ("NME", {"N": n, "C": _placed(before, carbon, n, 0.145, 122.0, 180.0)})]


def _placed(a: Array, b: Array, c: Array, bond: float, angle: float, torsion: float) -> Array:
    """The atom d at a distance `bond` from c, with the angle b-c-d and the torsion a-b-c-d in degrees."""
    bend, turn = np.radians(angle), np.radians(torsion)
    axis = _unit(c - b)
    normal = _unit(np.cross(b - a, axis))
    across = np.cross(normal, axis)
    away = -np.cos(bend) * axis + np.sin(bend) * (np.cos(turn) * across + np.sin(turn) * normal)
    return c + bond * away


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)
