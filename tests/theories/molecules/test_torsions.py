"""Torsions and their signs, and what an ensemble of a molecule keeps."""

import math

import numpy as np
import pytest
import torch

from lattice_flows.errors import InputError
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC
from lattice_flows.theories import AlanineDipeptide
from lattice_flows.theories.molecules.observables import Dihedral, Phi, Psi, backbone, dihedral

DIPEPTIDE = AlanineDipeptide()
PHI, PSI = (4, 6, 8, 14), (6, 8, 14, 16)


@pytest.mark.quick
@pytest.mark.parametrize("angle", [-3.1, -math.pi / 2, -0.2, 0.0, 1.0, 3.1])
def test_a_torsion_is_positive_where_the_far_bond_is_turned_clockwise(angle):
    """Seen along the axis, from the second atom to the third."""
    first, axis = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 2.0])
    fourth = axis + np.array([math.cos(angle), math.sin(angle), 0.3])
    x = np.array([first, np.zeros(3), axis, fourth])[None]
    assert dihedral(x, (0, 1, 2, 3))[0] == pytest.approx(angle, abs=1e-12)
    assert dihedral(x, (3, 2, 1, 0))[0] == pytest.approx(angle, abs=1e-12)
    assert dihedral(-x, (0, 1, 2, 3))[0] == pytest.approx(-angle, abs=1e-12)


@pytest.mark.quick
def test_phi_and_psi_are_those_of_the_backbone():
    assert backbone(DIPEPTIDE.molecule, "phi") == {1: PHI}
    assert backbone(DIPEPTIDE.molecule, "psi") == {1: PSI}
    names = [[DIPEPTIDE.atom_names[k] for k in atoms] for atoms in (PHI, PSI)]
    assert names == [["C", "N", "CA", "C"], ["N", "CA", "C", "N"]]
    x = DIPEPTIDE.reference[None]
    assert Phi(DIPEPTIDE)(x) == Phi(DIPEPTIDE, 1)(x) == Dihedral(PHI)(x)
    assert -3.2 < Phi(DIPEPTIDE)(x)[0] < -1.0  # a right-handed amino acid has its minima at negative phi
    assert Psi(DIPEPTIDE, 1).name == "psi_1"
    with pytest.raises(InputError, match="phi is one of the residues 1, got 0"):
        Phi(DIPEPTIDE, 0)(x)
    with pytest.raises(InputError, match="the molecule has only the atoms 0 to 21"):
        Dihedral((0, 1, 2, 22))(x)
    with pytest.raises(ValueError, match="four different numbers"):
        Dihedral((0, 1, 1, 2))


@pytest.fixture(scope="module")
def chains():
    """32 chains in the basin where they began: their configurations (N, 22, 3), and delta_h of each trajectory."""
    sampler = HMC(DIPEPTIDE, 0.04, 32)
    state = sampler.init(*DIPEPTIDE.hot(make_streams(11, "chains", range(32)), (22, 3)))
    kept, delta_h = [], []
    for k in range(40):
        state, info = sampler.step(state)
        if k >= 20:
            kept.append(state.x)
            delta_h.append(info.delta_h)
    return np.array(kept), np.array(delta_h)


def pull_of(series, wanted):
    """Of series (n, B), from the means of the chains, which are independent."""
    means = series.mean(0)
    return (means.mean() - wanted) / (means.std(ddof=1) / math.sqrt(len(means)))


def test_the_mean_of_exp_minus_delta_h_is_one(chains):
    delta_h = chains[1]
    assert delta_h.std() > 0.1
    assert abs(pull_of(np.exp(-delta_h), 1.0)) < 4.5
    assert abs(pull_of(np.exp(-delta_h - 0.1), 1.0)) > 4.5


def test_bonds_of_hydrogen_fluctuate_as_their_stiffness_tells(chains):
    """<(r - r0) dS/dr> = 1 + 2 <(r - r0) / r>, the integral by parts along each bond, here summed over all of them.

    It is the temperature of the chains: one that is a quarter off is seen.
    """
    x = chains[0].reshape(-1, 22, 3)
    ends = {k: pair for pair in DIPEPTIDE.bonds for k in pair if DIPEPTIDE.elements[k] == "H"}
    hydrogens = np.array(list(ends))
    partners = np.array([sum(ends[k]) - k for k in hydrogens])
    bonds = x[:, hydrogens] - x[:, partners]
    r = np.linalg.norm(bonds, axis=2)  # (N, 12)
    stretched = r - np.linalg.norm(DIPEPTIDE.reference[hydrogens] - DIPEPTIDE.reference[partners], axis=1)
    slope = -(DIPEPTIDE.force(torch.from_numpy(x)).numpy()[:, hydrogens] * bonds).sum(2) / r
    shape = chains[0].shape[:2]
    found = (stretched * slope).sum(1).reshape(shape)
    wanted = (1.0 + 2.0 * stretched / r).sum(1).reshape(shape)
    assert abs(pull_of(found - wanted, 0.0)) < 4.5
    assert abs(pull_of(1.25 * found - wanted, 0.0)) > 4.5
