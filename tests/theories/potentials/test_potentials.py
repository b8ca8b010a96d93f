"""Potentials of two coordinates: published points, closed forms, walls, hot starts."""

import numpy as np
import pytest
import torch
from equilibrium import equilibrium

from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers.integrators import INTEGRATORS, integrate
from lattice_flows.theories import Action, DoubleWell, MuellerBrown, WilsonU1

WELL, BROWN = DoubleWell(), MuellerBrown()

# Minima and saddles to the digits that are commonly quoted of Theor. Chim. Acta 53 (1979) 75.
STATIONARY = [
    ((-0.558, 1.442), -146.700),
    ((0.623, 0.028), -108.167),
    ((-0.050, 0.467), -80.768),
    ((-0.822, 0.624), -40.665),
    ((0.212, 0.293), -72.249),
]


@pytest.mark.parametrize(("point", "height"), STATIONARY)
def test_stationary_points_of_mueller_and_brown(point, height):
    unit, x = MuellerBrown(1.0), torch.tensor([point], dtype=torch.float64)
    assert float(unit(x)) == pytest.approx(height, abs=2e-3)
    assert float(unit.force(x).abs().max()) < 2.0  # beside forces of hundreds around them
    assert unit.potential(x.numpy()) == pytest.approx(height, abs=2e-3)


def test_minima_of_the_double_well():
    for x, height in ((-1.710829, -8.139247), (1.752520, -9.871173)):
        point = torch.tensor([[x, 0.0]], dtype=torch.float64)
        assert float(WELL(point)) == pytest.approx(height, abs=1e-6)
        assert float(WELL.force(point).abs().max()) < 1e-4


def test_closed_forms_have_the_known_values():
    """Of quadratures made elsewhere."""
    well, brown = WELL.closed_forms(()), BROWN.closed_forms(())
    assert well.log_z == pytest.approx(10.293480, abs=1e-6)
    assert well.basin_probability == pytest.approx(0.155693, abs=1e-6)
    assert brown.log_z == pytest.approx(11.729590, abs=1e-6)
    assert brown.basin_probability == pytest.approx(0.974285, abs=1e-6)


@pytest.mark.parametrize("theory", [DoubleWell, MuellerBrown])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 10.0])
def test_the_mean_of_the_potential_is_the_slope_of_log_z(theory, scale):
    h = 1e-3 * scale
    log_z = [theory(scale - k * h).closed_forms(()).log_z for k in range(5)]  # backwards from the largest scale
    slope = (25 * log_z[0] - 48 * log_z[1] + 36 * log_z[2] - 16 * log_z[3] + 3 * log_z[4]) / (12 * h)
    assert -slope == pytest.approx(theory(scale).closed_forms(()).potential, rel=1e-7)


@pytest.mark.parametrize("action", [WELL, BROWN], ids=str)
def test_closed_forms_are_the_means_of_independent_points(action, seed):
    x, _ = equilibrium(action, (), make_streams(seed, "test", range(5000)))
    exact = action.closed_forms(())
    for one in action.observables(()):
        (quantity,) = one.quantities(())
        series = one(x)
        pull = (series.mean() - quantity.exact(exact)) / (series.std() / np.sqrt(len(x)))
        assert abs(pull) < 4.5, quantity.name


def test_beyond_its_walls_mueller_and_browns_action_is_infinite():
    outside = np.array([[1.5, 0.0], [0.0, 2.5], [-1.9, 0.0], [0.0, -0.9]])
    inside = np.array([[1.4, 2.4], [-1.8, -0.8]])
    for values in (BROWN(torch.from_numpy(outside)).numpy(), BROWN.evaluate(outside)):
        assert (values == np.inf).all()
    for values in (BROWN(torch.from_numpy(inside)).numpy(), BROWN.evaluate(inside)):
        assert np.isfinite(values).all()


def test_trajectories_through_the_walls_are_those_of_torch_and_reversible(rng):
    x = np.array([[1.39, 0.0], [-1.79, -0.79], [0.0, 2.39], [0.6, 0.0]])
    p = np.array([[3.0, 1.0], [-2.0, -4.0], [0.5, 5.0], [0.1, -0.2]])
    drifts, kicks, _ = INTEGRATORS["omelyan"]
    weak = MuellerBrown(1e-3)  # so that rounding does not grow
    couplings, steps = weak.kernel_couplings((2,)), np.full(4, 0.05)
    end, q = hmc.integrate(couplings, x, p, drifts, kicks, steps, 40)
    torch_end, torch_q = integrate(weak, *map(torch.from_numpy, (x, p)), INTEGRATORS["omelyan"], 0.05, 40)
    np.testing.assert_allclose(end, torch_end.numpy(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(q, torch_q.numpy(), rtol=0, atol=1e-10)
    assert (np.abs(end - (x + 2.0 * p))[:3].max(1) > 1.0).all(), "the first three met walls"
    back, _ = hmc.integrate(couplings, end, -q, drifts, kicks, steps, 40)
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-10)


def test_hot_starts_of_mueller_and_brown_lie_below_zero_in_all_minima(seed):
    x, streams = BROWN.hot(make_streams(seed, "test", range(500)), (2,))
    assert (BROWN.potential(x) < 0).all()
    assert (streams[:, 1] > 0).all()
    for point, _ in STATIONARY[:3]:
        assert (np.abs(x - np.array(point)).max(1) < 0.3).any()


def test_a_potential_is_a_multiple_of_its_own_kind():
    assert DoubleWell(0.5).multiple_of(DoubleWell(2.0)) == 0.25
    assert DoubleWell(0.5).multiple_of(MuellerBrown(0.5)) is None
    assert MuellerBrown(1.0).multiple_of(WilsonU1(1.0)) is None
    x = torch.tensor([[0.3, 0.4]], dtype=torch.float64)
    for action in (WELL, BROWN):
        torch.testing.assert_close(action.scaled(0.0)(x), torch.zeros(1, dtype=torch.float64))
        torch.testing.assert_close(action.scaled(0.3)(x), 0.3 * action(x))


@pytest.mark.parametrize("theory", [DoubleWell, MuellerBrown])
@pytest.mark.parametrize("scale", [0.0, -1.0, 11.0, float("nan"), float("inf")])
def test_impossible_scales_are_refused(theory, scale):
    with pytest.raises(ValueError, match=r"scale must be above 0 and at most 10, got"):
        theory(scale)


@pytest.mark.parametrize("action", [WELL, BROWN], ids=str)
def test_there_is_no_lattice(action):
    assert action.field(()).lattice_shape == ()
    with pytest.raises(ValueError, match=r"has no lattice, got the shape \[4, 4\]"):
        action.field((4, 4))


@pytest.mark.parametrize("action", [WELL, BROWN], ids=str)
def test_quantities_carry_their_labels(action: Action):
    labels = [one.quantities(())[0].label.plain for one in action.observables(())]
    condition = "x < 0" if action is WELL else "y > 0.75"
    assert labels == ["x", "y", "u", f"P({condition})"]


def test_a_wall_in_single_precision_belongs_to_the_inside():
    corners = torch.tensor([[1.4, 2.4], [-1.8, -0.8]], dtype=torch.float32)  # 2.4, -0.8: rounded outwards
    assert torch.isfinite(BROWN(corners)).all()
    assert (BROWN(corners + torch.tensor([1e-6, 1e-6]))[0] == torch.inf).all()
