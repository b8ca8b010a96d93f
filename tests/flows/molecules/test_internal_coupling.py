"""Internal coordinates of molecules and their flow: exact both ways, with the right density, about a minimum."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from lattice_flows.flows import (
    Flow,
    InternalCoordinates,
    InternalCouplingFlow,
    Transform,
    forward_with_score,
    harmonic_coordinates,
    initialise,
    internal_coupling,
)
from lattice_flows.flows.molecules.harmonic import HarmonicCoordinates, kinds_of
from lattice_flows.kernels.random import make_streams
from lattice_flows.lattice import Mixed
from lattice_flows.samplers import HMC
from lattice_flows.theories import AlanineDipeptide, DoubleWell, Peptide
from lattice_flows.theories.molecules.action import MolecularAction
from lattice_flows.theories.molecules.observables import backbone, dihedral

pytestmark = pytest.mark.quick


@cache
def _far_flow(transform: str = "affine") -> Flow:
    """No weight is zero."""
    flow = internal_coupling(
        (), AlanineDipeptide(), n_sweeps=1, n_layers=2, hidden=(6, 6), transform=transform
    ).double()
    generator = torch.Generator().manual_seed(1)
    initialise(flow, generator)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return flow


@cache
def _trajectory() -> Tensor:
    """200 configurations of a chain at 600 K, (200, 22, 3)."""
    action = AlanineDipeptide(600.0)
    hmc = HMC(action, 0.1, 50)
    x, streams = action.hot(make_streams(1, "trajectory", range(8)), action.event_shape(()))
    state, kept = hmc.init(x, streams), []
    for _ in range(25):
        state, _ = hmc.step(state)
        kept.append(state.x)
    return torch.from_numpy(np.concatenate(kept))


def _check_inverse(transform: Transform, x: Tensor, tolerance: float) -> None:
    z, inverse_log_det = transform.inverse(x)
    back, log_det = transform.forward(z)
    torch.testing.assert_close(back, x, atol=tolerance, rtol=0)
    torch.testing.assert_close(log_det, -inverse_log_det, atol=tolerance, rtol=0)


def _check_jacobian(transform: Transform, z: Tensor) -> None:
    jacobian = torch.autograd.functional.jacobian(lambda own: transform.forward(own[None])[0][0], z[0])
    _, expected = torch.linalg.slogdet(jacobian.reshape(z[0].numel(), -1))
    torch.testing.assert_close(transform.forward(z[:1])[1][0], expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("action", [AlanineDipeptide(), Peptide("AFPKG")], ids=["dipeptide", "five residues"])
def test_internal_coordinates_are_exact_both_ways(action: MolecularAction, generator: torch.Generator) -> None:
    transform = InternalCoordinates(action.molecule.z_matrix)
    shape = (4, action.n_atoms, 3)
    x = torch.tensor(action.reference) + 0.01 * torch.randn(shape, generator=generator, dtype=torch.float64)
    _check_inverse(transform, x, 1e-10)
    _check_jacobian(transform, transform.inverse(x)[0])


def test_internal_coordinates_are_exact_along_a_trajectory() -> None:
    x = _trajectory()
    _check_inverse(InternalCoordinates(AlanineDipeptide().molecule.z_matrix), x, 1e-10)
    _check_inverse(_far_flow().transform, x, 1e-6)


def test_torsions_are_the_observables() -> None:
    action, x = AlanineDipeptide(), _trajectory()
    matrix = action.molecule.z_matrix
    z, _ = InternalCoordinates(matrix).inverse(x)
    columns = [matrix.atoms, *(matrix.atoms[row] for row in (matrix.bonded, matrix.angled, matrix.turned))]
    atoms = [tuple(map(int, row)) for row in np.stack(columns, 1)]
    for kind in ("phi", "psi"):
        (torsion,) = backbone(action.molecule, kind).values()
        row = next(k for k, own in enumerate(atoms) if matrix.proper[k] and own in (torsion, torsion[::-1]))
        np.testing.assert_allclose(np.exp(1j * z[:, row, 2].numpy()), np.exp(1j * dihedral(x.numpy(), torsion)))


def _harmonic(action: MolecularAction) -> HarmonicCoordinates:
    return harmonic_coordinates(action, action.molecule.z_matrix, torch.tensor(action.reference), action.centroid_width)


def test_harmonic_coordinates_are_exact_both_ways(generator: torch.Generator) -> None:
    harmonic = _harmonic(AlanineDipeptide())
    z = torch.randn(6, 22, 3, generator=generator, dtype=torch.float64)
    x, _ = harmonic.forward(z)
    back, _ = harmonic.inverse(x)
    torch.testing.assert_close(back, z, atol=1e-9, rtol=0)
    _check_inverse(harmonic, x, 1e-9)
    _check_jacobian(harmonic, z)
    distances, angles = x[:, 1:, 0], x[:, 1:, 1]
    assert (distances > 0.08).all()
    assert ((angles > 0) & (angles < math.pi)).all()


@pytest.mark.parametrize("z", [-5.4, 0.0, 5.4])
def test_the_polar_angle_has_a_gradient_in_single_precision(z: float) -> None:
    """One of ten million deviates is beyond 5.3, where the distribution function is rounded to 1."""
    harmonic = _harmonic(AlanineDipeptide())
    start = torch.zeros(1, 22, 3)
    start[0, 1, 1] = z
    x = harmonic.forward(start)[0].requires_grad_(True)
    back, log_det = harmonic.inverse(x)
    (gradient,) = torch.autograd.grad(back.sum() + log_det.sum(), x)
    assert gradient.isfinite().all()
    assert back[0, 1, 1].item() == pytest.approx(z, abs=0.05)  # as far as rounding lets it be known


def test_rigid_motion_has_its_exact_density(generator: torch.Generator) -> None:
    flow, action = _far_flow(), AlanineDipeptide()
    x = flow.sample(2000, generator).x.detach()
    bond = torch.nn.functional.normalize(x[:, 6] - x[:, 8], dim=1).numpy()  # of row 1 of the z-matrix
    centroid = (x.mean(1) / action.centroid_width).numpy()
    for axis in range(3):
        assert kstest(bond[:, axis], "uniform", (-1.0, 2.0)).pvalue > 1e-4  # Archimedes: uniform on the sphere
        assert kstest(centroid[:, axis], "norm").pvalue > 1e-4
    assert kstest(1.05 * centroid.ravel(), "norm").pvalue < 0.2  # 5 % would begin to show


def test_a_cold_molecule_is_harmonic(generator: torch.Generator) -> None:
    """At 10 K log w is the same for all stiff coordinates, torsions being held at the reference; 5 % off are not."""
    action = AlanineDipeptide(10.0)
    harmonic, internal = _harmonic(action), InternalCoordinates(action.molecule.z_matrix)
    kinds, space = kinds_of(action.molecule.z_matrix), harmonic.domain
    assert isinstance(space, Mixed)
    z = torch.randn(200, 66, generator=generator, dtype=torch.float64)
    z[:, kinds.torsions] = internal.inverse(torch.tensor(action.reference)[None])[0].flatten()[kinds.torsions]
    z = z.reshape(-1, 22, 3)

    def spread(z: Tensor) -> float:
        deviations, slope = harmonic.forward(z)
        x, log_det = internal.forward(deviations)
        lines = torch.where(space.mask(), 0.0, z)
        return float((0.5 * lines.square().flatten(1).sum(1) + slope + log_det - action(x)).std())

    exact = spread(z)
    harmonic.root *= 1.05
    assert exact < 0.2 < spread(z)


@pytest.mark.parametrize("transform", ["affine", "spline"])
def test_the_flow_knows_its_density(transform: str, generator: torch.Generator) -> None:
    flow = _far_flow(transform)
    x, log_q = flow.sample(50, generator)
    torch.testing.assert_close(flow.log_prob(x), log_q, atol=1e-6, rtol=0)
    _check_jacobian(flow.transform, flow.prior.sample(1, generator))
    z = flow.prior.sample(5, generator).requires_grad_(True)
    (score,) = torch.autograd.grad(flow.prior.log_prob(z).sum(), z)
    x, _, carried = forward_with_score(flow.transform, z, score)
    end = x.detach().requires_grad_(True)
    (expected,) = torch.autograd.grad(flow.log_prob(end).sum(), end)
    torch.testing.assert_close(carried, expected, rtol=1e-6, atol=1e-4)


def test_torsions_come_first_and_see_no_stiff_coordinate(generator: torch.Generator) -> None:
    flow, kinds = _far_flow(), kinds_of(AlanineDipeptide().molecule.z_matrix)
    z = flow.prior.sample(3, generator)
    other = z.flatten(1).clone()
    other[:, torch.cat(kinds.stiff)] += 0.3
    internal = InternalCoordinates(AlanineDipeptide().molecule.z_matrix)
    torsions = [
        internal.inverse(flow.image(own).x)[0].flatten(1)[:, kinds.torsions[2:]] for own in (z, other.view_as(z))
    ]
    torch.testing.assert_close(torch.cos(torsions[0] - torsions[1]), torch.ones_like(torsions[0]))


def test_other_theories_are_refused() -> None:
    with pytest.raises(ValueError, match="internal_coupling is a flow of molecules, got DoubleWell"):
        InternalCouplingFlow((), DoubleWell())
    with pytest.raises(ValueError, match="n_layers must be between 0"):
        InternalCouplingFlow((), AlanineDipeptide(), n_layers=-1)
