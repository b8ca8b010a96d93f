"""The z-matrix: every atom is placed once, by atoms before it, and torsions are those that the field names."""

import numpy as np
import pytest

from lattice_flows.theories import AlanineDipeptide, MolecularAction, Peptide
from lattice_flows.theories.molecules.observables import backbone
from lattice_flows.theories.molecules.z_matrix import FIRST_POINT, z_matrix

pytestmark = pytest.mark.quick

MOLECULES = pytest.mark.parametrize(
    "action", [AlanineDipeptide(), Peptide("PFC")], ids=["alanine dipeptide", "with rings"]
)


@MOLECULES
def test_every_atom_is_placed_by_three_before_it(action: MolecularAction) -> None:
    matrix = action.molecule.z_matrix
    assert sorted(matrix.atoms) == list(range(action.n_atoms))
    bonds = {frozenset(pair) for pair in action.bonds}
    assert matrix.levels[0] == slice(0, 1)
    for level in matrix.levels[1:]:
        for k in range(level.start, level.stop):
            before = matrix.bonded[k], matrix.angled[k], matrix.turned[k]
            assert len(set(before)) == 3
            assert all(FIRST_POINT <= row < level.start for row in before)
            assert frozenset((int(matrix.atoms[k]), int(matrix.atoms[before[0]]))) in bonds
    assert [level.start for level in matrix.levels[1:]] == [level.stop for level in matrix.levels[:-1]]
    assert matrix.levels[-1].stop == action.n_atoms


@MOLECULES
def test_each_bond_has_one_torsion_about_it(action: MolecularAction) -> None:
    matrix = action.molecule.z_matrix
    turned = [(matrix.bonded[k], matrix.angled[k]) for k in np.flatnonzero(matrix.proper)]
    assert len(set(turned)) == len(turned)
    ends = {row for row in matrix.bonded[3:] if row != 0}  # of bonds on which something hangs
    assert {row for row, _ in turned} == ends


def test_the_torsions_of_alanine_dipeptide_are_phi_psi_and_five_more() -> None:
    action = AlanineDipeptide()
    matrix = action.molecule.z_matrix
    assert matrix.proper.sum() == 7
    atoms = np.stack([matrix.atoms, *(matrix.atoms[row] for row in (matrix.bonded, matrix.angled, matrix.turned))], 1)
    named = {tuple(map(int, row)) for row in atoms[matrix.proper]}
    for kind in ("phi", "psi"):
        (torsion,) = backbone(action.molecule, kind).values()
        assert torsion in named or torsion[::-1] in named, kind


def test_what_has_no_z_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match="three atoms or more, got 2"):
        z_matrix([True, True], [(0, 1)])
    with pytest.raises(ValueError, match="of 5 atoms 3 hang together with atom 0"):
        z_matrix([True] * 5, [(0, 1), (1, 2), (3, 4)])
