"""The phi^4 actions: literal sums, compiled forms, the converter between them, and what is refused."""

import numpy as np
import pytest
import torch
from phi4_chain import Phi4Chain

from lattice_flows.kernels import hmc
from lattice_flows.theories import FreeField
from lattice_flows.theories.action import Action
from lattice_flows.theories.phi4.action import Phi4, Phi4Hopping

pytestmark = pytest.mark.quick

SHAPES = [(5,), (2,), (6, 4), (5, 3), (3, 4, 2)]
THEORIES = [Phi4(-1.7, 0.8), Phi4(0.4, 0.0), Phi4Hopping(0.21, 0.6), Phi4Hopping(0.11, 0.0)]

over_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
over_actions = pytest.mark.parametrize("action", THEORIES, ids=str)


@pytest.fixture
def phi(shape, generator):
    return torch.randn(3, *shape, generator=generator, dtype=torch.float64)


def total(density):
    return density.flatten(1).sum(1)


def axes(phi):
    return range(1, phi.ndim)


@over_shapes
def test_the_literal_sums(phi):
    kinetic = sum(phi * (2 * phi - torch.roll(phi, -1, mu) - torch.roll(phi, 1, mu)) for mu in axes(phi))
    expected = total(kinetic - 1.7 * phi**2 + 0.8 * phi**4)
    torch.testing.assert_close(Phi4(-1.7, 0.8)(phi), expected, rtol=1e-12, atol=1e-12)
    hopping = sum(phi * torch.roll(phi, -1, mu) for mu in axes(phi))
    expected = total(-2 * 0.21 * hopping + (1 - 2 * 0.6) * phi**2 + 0.6 * phi**4)
    torch.testing.assert_close(Phi4Hopping(0.21, 0.6)(phi), expected, rtol=1e-12, atol=1e-12)


@over_shapes
@over_actions
def test_force_and_compiled_forms(action, phi):
    couplings, x = action.kernel_couplings(phi.shape[1:]), phi.numpy()
    torch.testing.assert_close(action.force(phi), Action.force(action, phi), rtol=0, atol=1e-12)
    np.testing.assert_allclose(hmc.force(couplings, x), action.force(phi).numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(hmc.action(couplings, x), action(phi).numpy(), rtol=1e-12, atol=1e-12)
    assert action(phi.float()).dtype == torch.float64
    assert action.force(phi.float()).dtype == torch.float32
    assert action.event_shape(phi.shape[1:]) == phi.shape[1:]


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
@pytest.mark.parametrize(("m2", "lam"), [(-4.0, 8.0), (0.7, 0.0), (0.0, 1e-9), (-9.5, 1e-3), (-1.0, 30.0)])
def test_the_conversion_there_and_back(m2, lam, dimension):
    action = Phi4(m2, lam)
    hopping = action.to_hopping(dimension)
    back = hopping.to_phi4(dimension)
    assert (back.m2, back.lam) == (pytest.approx(m2, rel=1e-10, abs=1e-10), pytest.approx(lam, rel=1e-10))
    again = back.to_hopping(dimension)
    assert (again.kappa, again.lam) == (pytest.approx(hopping.kappa), pytest.approx(hopping.lam))


@over_shapes
@over_actions
def test_the_converted_action_is_equal_at_the_rescaled_field(action, phi):
    dimension = phi.ndim - 1
    if isinstance(action, Phi4):
        other = action.to_hopping(dimension)
        scaled = phi / other.kappa**0.5
    else:
        other = action.to_phi4(dimension)
        scaled = phi * action.kappa**0.5
    torch.testing.assert_close(other(scaled), action(phi), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("m2", "lam"), [(-1.2, 0.9), (0.6, 0.0)])
@pytest.mark.parametrize("n_sites", [2, 7])
def test_log_z_of_the_converted_action(m2, lam, n_sites):
    """log Z(phi4) = log Z(hopping) + (V/2) log kappa, both by the transfer matrix (two sites: a plain integral)."""
    action = Phi4(m2, lam)
    hopping = action.to_hopping(1)
    reach = 5.0
    log_z = Phi4Chain(*action.couplings(1), n_sites, reach).log_z
    log_z_hopping = Phi4Chain(*hopping.couplings(1), n_sites, reach / hopping.kappa**0.5).log_z
    assert log_z == pytest.approx(log_z_hopping + 0.5 * n_sites * np.log(hopping.kappa), rel=1e-10)


@pytest.mark.parametrize("shape", [(6,), (4, 5)])
@pytest.mark.parametrize("action", [Phi4(0.4, 0.0), Phi4Hopping(0.11, 0.0)], ids=str)
def test_closed_forms_of_the_free_field(action, shape, generator):
    """The Hessian of S is half the inverse of the covariance: its determinant gives log Z."""
    n = int(np.prod(shape))
    hessian = torch.autograd.functional.hessian(
        lambda x: action(x.view(1, *shape)).sum(), torch.zeros(n, dtype=torch.float64)
    ).numpy()
    oracle = action.closed_forms(shape)
    assert isinstance(oracle, FreeField)
    assert oracle.log_z == pytest.approx(0.5 * n * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(hessian)[1], rel=1e-12)
    assert oracle.phi_squared == pytest.approx(np.linalg.inv(hessian)[0, 0], rel=1e-12)


@pytest.mark.parametrize("action", [Phi4(0.4, 0.0), Phi4Hopping(0.11, 0.0)], ids=str)
def test_direct_configurations_of_the_free_field(action, seed):
    from lattice_flows.kernels.random import make_streams

    shape, n = (4, 3), 20_000
    x, _ = action.direct_sampler().draw(shape, make_streams(seed, "test", range(n)))
    s = action.evaluate(x)
    assert abs(s.mean() - 6.0) < 4.5 * s.std() / np.sqrt(n)  # V/2
    squares = (x**2).reshape(n, -1).mean(1)
    assert abs(squares.mean() - action.closed_forms(shape).phi_squared) < 4.5 * squares.std() / np.sqrt(n)


def test_an_interacting_theory_has_no_closed_forms():
    assert Phi4(0.5, 0.1).closed_forms((4, 4)) is None
    assert Phi4Hopping(0.1, 0.1).direct_sampler() is None


@pytest.mark.parametrize("action", [Phi4(-1.0, 0.5), Phi4Hopping(0.2, 0.5)], ids=str)
def test_local_updates_are_those_of_the_same_couplings(action, seed):
    """Sweeps of every kind leave <phi^2> of a small chain at its exact value."""
    from lattice_flows.kernels.random import make_streams
    from lattice_flows.statistics import gamma_method

    updates, streams = action.local_updates((4,)), make_streams(seed, "test", range(100))
    sweeps = {
        "metropolis": lambda x, streams: updates.metropolis(x, streams, 1.5, 3),
        "heatbath": lambda x, streams: updates.heatbath(x, streams, 2),
        "overrelaxation": lambda x, streams: updates.overrelaxation(*updates.heatbath(x, streams, 1), 2),
    }
    exact = Phi4Chain(*action.couplings(1), 4).moment(2)
    for name, sweep in sweeps.items():
        x, series = np.zeros((100, 4)), []
        for _ in range(300):
            x, streams, *_ = sweep(x, streams)
            series.append((x**2).mean(1))
        estimate = gamma_method(np.stack(series[50:]))
        assert abs(estimate.value - exact) < 4.5 * estimate.error, name
        assert abs(estimate.value - 1.05 * exact) > 4.5 * estimate.error, name


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(("m2", "lam"), [(1.0, -0.1), (0.0, 0.0), (-1.0, 0.0), (NAN, 1.0), (1.0, INF)])
def test_impossible_couplings_are_refused(m2, lam):
    with pytest.raises(ValueError, match=r"m2|lam"):
        Phi4(m2, lam)


@pytest.mark.parametrize(("kappa", "lam"), [(0.0, 1.0), (-0.1, 1.0), (0.1, -1.0), (NAN, 1.0), (0.1, NAN)])
def test_impossible_hopping_couplings_are_refused(kappa, lam):
    with pytest.raises(ValueError, match=r"kappa|lam"):
        Phi4Hopping(kappa, lam)


def test_a_free_hopping_action_is_refused_where_the_dimension_makes_it_unbounded():
    action = Phi4Hopping(0.2, 0.0)
    assert action.event_shape((4, 4)) == (4, 4)
    for refused in (action.event_shape, action.kernel_couplings, action.closed_forms):
        with pytest.raises(ValueError, match=r"kappa must be below 0\.16"):
            refused((4, 4, 4))
    with pytest.raises(ValueError, match=r"kappa must be below 0\.16"):
        action.to_phi4(3)


@pytest.mark.parametrize("shape", [(), (1,), (4, 1)])
def test_lattices_without_neighbours_are_refused(shape):
    with pytest.raises(ValueError, match="extents of 2 or more"):
        Phi4(1.0, 1.0).event_shape(shape)
    with pytest.raises(ValueError, match="extents of 2 or more"):
        Phi4(1.0, 1.0).evaluate(np.zeros((1, *shape)))  # the compiled loops would read beyond the field
