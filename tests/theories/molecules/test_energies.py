"""S of molecules: the energies and forces of OpenMM, the spring, handedness, temperatures, broken configurations."""

import math
from dataclasses import replace

import numba
import numpy as np
import openmm
import pytest
import torch
from cases import MOLECULE
from openmm import app, unit

from lattice_flows.kernels.random import make_streams
from lattice_flows.theories import AlanineDipeptide, Combined, DoubleWell, OpenMMSystem, Peptide, Regularised
from lattice_flows.theories.molecules.action import GAS_CONSTANT, SPRING

pytestmark = pytest.mark.quick

DIPEPTIDE = AlanineDipeptide()


def hot(action, seed, n=4):
    return action.hot(make_streams(seed, "test", range(n)), (action.n_atoms, 3))[0]


def test_energies_and_forces_are_openmms_own(seed):
    x = hot(DIPEPTIDE, seed)
    parameters = app.AmberPrmtopFile(MOLECULE[0])
    system = parameters.createSystem(nonbondedMethod=app.NoCutoff, rigidWater=False, implicitSolvent=app.OBC2)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    u, force = DIPEPTIDE.molecule.engine(x)
    for k in range(len(x)):
        context.setPositions(x[k] * unit.nanometer)
        state = context.getState(getEnergy=True, getForces=True)
        assert u[k] == state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        wanted = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        np.testing.assert_array_equal(force[k], wanted)


def test_the_spring_holds_the_centroid_alone(seed):
    x = hot(DIPEPTIDE, seed)
    shift = np.array([0.3, -0.2, 0.1])
    centroid = x.mean(1)
    wanted = 0.5 * SPRING * (((centroid + shift) ** 2).sum(1) - (centroid**2).sum(1)) / (GAS_CONSTANT * 300.0)
    np.testing.assert_allclose(DIPEPTIDE.evaluate(x + shift) - DIPEPTIDE.evaluate(x), wanted, rtol=1e-9)
    assert math.sqrt(GAS_CONSTANT * 300.0 / SPRING) == pytest.approx(0.1, rel=0.01)


def test_the_gradient_is_the_force_in_float32_too(seed):
    x = torch.from_numpy(hot(DIPEPTIDE, seed)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(DIPEPTIDE(x).sum(), x)
    torch.testing.assert_close(gradient, -DIPEPTIDE.force(x), atol=0, rtol=0)
    short = x.detach().float().requires_grad_(True)
    (gradient,) = torch.autograd.grad((3.0 * DIPEPTIDE(short)).sum(), short)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, -3.0 * DIPEPTIDE.force(short), rtol=1e-6, atol=1e-4)


def test_numbers_depend_on_no_thread_and_on_no_configuration_beside_them(seed):
    x = hot(DIPEPTIDE, seed, 40)
    s, force = DIPEPTIDE.evaluate(x), DIPEPTIDE.force(torch.from_numpy(x)).numpy()
    order = np.random.default_rng(seed).permutation(len(x))
    numba.set_num_threads(2)
    np.testing.assert_array_equal(DIPEPTIDE.evaluate(x[order]), s[order])
    np.testing.assert_array_equal(DIPEPTIDE.force(torch.from_numpy(x[order])).numpy(), force[order])
    np.testing.assert_array_equal(DIPEPTIDE.evaluate(x[7:8]), s[7:8])
    np.testing.assert_array_equal(DIPEPTIDE.evaluate(np.asfortranarray(x)), s)


def test_mirror_images_are_refused_though_their_energy_is_the_same(seed):
    x = hot(DIPEPTIDE, seed)
    mirrored = x * np.array([1.0, 1.0, -1.0])
    np.testing.assert_allclose(DIPEPTIDE.potential_energy(mirrored), DIPEPTIDE.potential_energy(x), atol=1e-3)
    assert (DIPEPTIDE.evaluate(mirrored) == np.inf).all()
    assert np.isfinite(DIPEPTIDE.evaluate(x)).all()


@pytest.mark.parametrize(("sequence", "n"), [("TAG", 3), ("I", 2)])
def test_two_carbons_of_threonine_and_isoleucine_have_a_hand(sequence, n):
    molecule = Peptide(sequence, implicit_solvent="none").molecule
    assert len(molecule.centres) == n
    start = molecule.start[None]
    for centre, _, b, c in molecule.centres:
        swapped = start.copy()
        swapped[0, [b, c]] = swapped[0, [c, b]]
        assert molecule.as_reference(start).all()
        assert not molecule.as_reference(swapped).any(), molecule.atom_names[centre]


def test_broken_configurations_have_an_infinite_action_and_no_force(seed):
    x = hot(DIPEPTIDE, seed, 6)
    x[0] = 0.0  # all atoms upon each other
    x[1, 3, 1] = np.nan
    x[2, 5] = np.inf
    x[3] *= 1e200
    x[4, 8] = x[4, 9]  # two bonded atoms
    s, force = DIPEPTIDE.evaluate(x), DIPEPTIDE.force(torch.from_numpy(x)).numpy()
    assert (s[:5] == np.inf).all()
    assert (force[:5] == 0).all()
    assert np.isfinite(s[5])
    assert np.isfinite(force[5]).all()
    y = torch.from_numpy(x).requires_grad_(True)
    Regularised(DIPEPTIDE, 0.0)(y).sum().backward()
    assert torch.isfinite(y.grad).all()


@pytest.mark.parametrize("apart", [1e-2, 1e-4, 1e-6])  # nm
def test_atoms_upon_each_other_do_not_overflow_single_precision(apart):
    x = torch.tensor(DIPEPTIDE.cold((22, 3)))[None].float()
    x[0, 0] = x[0, 10] + torch.tensor([apart, 0.0, 0.0])
    damped = Regularised(DIPEPTIDE, 500.0)
    y = x.clone().requires_grad_(True)
    damped(y).sum().backward()
    assert y.grad.isfinite().all()
    assert damped.force(x).isfinite().all()
    assert (y.grad.abs().max() > 0) == (apart > 1e-3)


def test_the_action_is_a_multiple_of_the_inverse_temperature(seed):
    x, warm, other = hot(DIPEPTIDE, seed), AlanineDipeptide(450.0), Peptide("A")
    assert DIPEPTIDE.multiple_of(warm) == pytest.approx(1.5)
    assert DIPEPTIDE.multiple_of(other) is None
    np.testing.assert_allclose(DIPEPTIDE.evaluate(x), 1.5 * warm.evaluate(x), rtol=1e-12)
    np.testing.assert_allclose(DIPEPTIDE.scaled(0.4).evaluate(x), 0.4 * DIPEPTIDE.evaluate(x), rtol=1e-12)
    half = DIPEPTIDE.toward(warm, 0.5)
    assert isinstance(half, AlanineDipeptide)
    np.testing.assert_allclose(half.evaluate(x), 0.5 * (DIPEPTIDE.evaluate(x) + warm.evaluate(x)), rtol=1e-12)
    assert isinstance(DIPEPTIDE.toward(other, 0.5), Combined)
    assert isinstance(DIPEPTIDE.scaled(0.0), Combined)
    assert replace(DIPEPTIDE, temperature=450.0).molecule is DIPEPTIDE.molecule  # one engine for all rungs


def test_the_reference_is_a_minimum_where_chains_begin(seed):
    force = DIPEPTIDE.molecule.engine(DIPEPTIDE.reference[None])[1]
    assert np.sqrt((force**2).mean()) < 2.0  # kJ/mol/nm, beside thousands at 300 K
    np.testing.assert_allclose(DIPEPTIDE.reference.mean(0), 0.0, atol=1e-12)
    np.testing.assert_array_equal(DIPEPTIDE.cold((22, 3)), DIPEPTIDE.reference)
    above = DIPEPTIDE.evaluate(hot(DIPEPTIDE, seed, 50)) - DIPEPTIDE.reference_action
    assert (above > 0).all()
    assert above.max() < 66.0  # 33 is the mean at 300 K


def test_openmms_fast_obc2_is_that_of_its_force_field_file(seed):
    action = Peptide("AS")
    pdb = action.molecule
    topology = action.source.build().topology
    forces = app.ForceField("amber14-all.xml", "implicit/obc2.xml")
    system = forces.createSystem(topology, nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(pdb.reference)
    state = context.getState(getEnergy=True, getForces=True)
    u, force = pdb.engine(pdb.reference[None])
    assert u[0] == pytest.approx(state.getPotentialEnergy()._value, abs=2e-4)
    np.testing.assert_allclose(force[0], state.getForces(asNumpy=True)._value, atol=0.01)


@pytest.mark.parametrize("action", [DoubleWell(), DIPEPTIDE], ids=["double_well", "molecule"])
def test_a_regularised_action_is_damped_above_its_height_alone(action, seed):
    event = action.event_shape(())
    x = torch.from_numpy(action.hot(make_streams(seed, "test", range(200)), event)[0])
    s = action(x)
    damped = Regularised(action, float(s.median()))
    low = s <= s.median()
    torch.testing.assert_close(damped(x)[low], s[low], atol=0, rtol=0)
    torch.testing.assert_close(damped(x)[~low], s.median() + torch.log(1 + s[~low] - s.median()))
    np.testing.assert_array_equal(damped.evaluate(x.numpy()), damped(x).numpy())
    factor = torch.where(low, 1.0, 1.0 / (1.0 + s - s.median())).reshape(-1, *[1] * len(event))
    torch.testing.assert_close(damped.force(x), factor * action.force(x), rtol=1e-9, atol=1e-9)


def test_five_residues_are_built_from_their_sequence():
    action = Peptide("AAAAA")
    assert action.n_atoms == 62
    assert [name for _, name in dict(action.residue_of).items()] == ["ACE", *["ALA"] * 5, "NME"]
    pairs = np.array(action.bonds)
    lengths = np.linalg.norm(action.reference[pairs[:, 0]] - action.reference[pairs[:, 1]], axis=1)
    assert len(pairs) == 61
    assert ((lengths > 0.09) & (lengths < 0.16)).all()
    assert {one.name for one in action.observables(())} == {
        "potential_energy",
        *(f"{angle}_{k}" for angle in ("phi", "psi") for k in range(1, 6)),
    }


def test_all_twenty_amino_acids_are_built():
    action = Peptide("ACDEFGHIKLMNPQRSTVWY", implicit_solvent="none")
    start = action.molecule.start
    pairs = np.array(action.bonds)
    lengths = np.linalg.norm(start[pairs[:, 0]] - start[pairs[:, 1]], axis=1)
    assert lengths.max() < 0.21  # rings are closed
    apart = np.linalg.norm(start[:, None] - start, axis=2) + np.eye(len(start))
    assert apart.min() > 0.08


def test_molecules_of_a_pdb_file_and_of_amber_files_are_read(tmp_path):
    built = Peptide("A").source.build()
    path = tmp_path / "a.pdb"
    with path.open("w") as file:
        app.PDBFile.writeFile(built.topology, built.positions * 10, file)
    action = OpenMMSystem(str(path), force_field=("amber14-all.xml",))
    assert action.elements == Peptide("A").elements
    np.testing.assert_allclose(action.molecule.reference_energy, Peptide("A").molecule.reference_energy, atol=0.01)
    assert OpenMMSystem(*MOLECULE).multiple_of(OpenMMSystem(*MOLECULE, temperature=600.0)) == 2.0
