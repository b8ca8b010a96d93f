"""The dimer in its bath: published numbers, forces, statistics against quadrature and independent weights."""

import numpy as np
import pytest
import torch

from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC, Metadynamics, Umbrella
from lattice_flows.samplers.umbrella import window_potentials
from lattice_flows.statistics import JoinedWindows, derived, gamma_method
from lattice_flows.theories import Action, Combined, DimerBath, DoubleWell
from lattice_flows.theories.dimer.closed_forms import lone_dimer
from lattice_flows.theories.observable import identity

pytestmark = pytest.mark.quick


def placed(*points):
    """One configuration of these points, (1, n, 2)."""
    return np.array([points], dtype=np.float64)


def dimer(length):
    return [(-0.5 * length, 0.0), (0.5 * length, 0.0)]


@pytest.mark.parametrize(
    ("x", "u"),
    [
        (dimer(1.5), 0.0),
        (dimer(2.0), -1.0 - 25.0 + 10.0),  # d0 = 1
        (dimer(1.0), 1.0 - 25.0 + 10.0),  # d0 = -1
        ([(-0.5, 0.1), (1.0, 0.1)], 20.0 * (0.5**2 + 2 * 0.1**2)),
        ([*dimer(1.5), (0.75, 1.1)], 1.0 + (1.21 / (1.5**2 + 1.1**2)) ** 6),
        ([*dimer(1.5), (0.75, 2.999)], 100.0 * 0.0 + (1.1 / 2.999) ** 12),  # the other end is beyond the cut
        ([*dimer(1.5), (3.2, -3.5)], 100.0 * (0.2**2 + 0.5**2)),
        ([*dimer(1.5), (0.0, 0.0)], 2 * (1.1 / 0.75) ** 12),
    ],
)
def test_energies_by_hand(x, u):
    action = DimerBath(len(x) - 2, 0.5)
    assert action.energy(placed(*x)) == pytest.approx(u, rel=1e-12, abs=1e-12)
    assert float(action(torch.from_numpy(placed(*x)))) == pytest.approx(0.5 * u, rel=1e-12, abs=1e-12)


def crowded(rng, n, n_bath):
    """Configurations (n, 2 + n_bath, 2) with pairs at 0.3 and less, some of them beyond walls."""
    return np.ascontiguousarray(rng.uniform(-3.4, 3.4, (n, 2 + n_bath, 2)))


@pytest.mark.parametrize("n_bath", [0, 1, 2, 6, 13, 36, 44])
def test_kernel_and_torch_agree_at_any_number_of_particles(n_bath, rng):
    """Also where it is no multiple of what a vector of the processor holds."""
    action, x = DimerBath(n_bath, 0.3), crowded(rng, 20, n_bath)
    np.testing.assert_allclose(action.evaluate(x), action(torch.from_numpy(x)).numpy(), rtol=1e-11)
    compiled, written = hmc.force(action.kernel_couplings(x.shape[1:]), x), action.force(torch.from_numpy(x))
    scale = np.abs(compiled).max((1, 2), keepdims=True)
    np.testing.assert_allclose(compiled / scale, written.numpy() / scale, rtol=0, atol=1e-12)
    torch.testing.assert_close(written, Action.force(action, torch.from_numpy(x)), rtol=1e-9, atol=1e-6)


def test_the_force_at_close_distances_is_minus_the_slope():
    """A pair at 0.35, where S is 1e6, and others up to 2.9."""
    action = DimerBath(3, 1.0)
    x = placed((-0.4, 0.05), (0.5, -0.1), (-0.3, 0.385), (1.2, 0.4), (-0.35, -2.5))
    force = hmc.force(action.kernel_couplings((5, 2)), x).ravel()
    assert np.abs(force).max() > 1e7
    for k in range(x.size):
        step = np.zeros(x.size)
        step[k] = 1e-5
        up, down = (action.evaluate(x + sign * step.reshape(x.shape))[0] for sign in (1.0, -1.0))
        assert -(up - down) / 2e-5 == pytest.approx(force[k], rel=1e-6, abs=0.02)


def test_particles_in_one_place_have_a_finite_energy_and_force():
    action = DimerBath(3, 1.0)
    x = placed((0.2, 0.1), (0.2, 0.1), (0.2, 0.1), (0.2, 0.1), (0.203, 0.1))
    for values in (
        action.evaluate(x),
        action(torch.from_numpy(x)).numpy(),
        action(torch.from_numpy(x).float()).numpy(),
    ):
        assert (values > 1e24).all()
        assert np.isfinite(values).all()
    for force in (hmc.force(action.kernel_couplings((5, 2)), x), action.force(torch.from_numpy(x)).numpy()):
        assert np.isfinite(force).all()
    assert torch.isfinite(action.force(torch.from_numpy(x).float())).all()
    assert torch.isfinite(Action.force(action, torch.from_numpy(x))).all()
    assert (DimerBath.collective_variables["dimer_distance"].gradient(x) == 0.0).all()


@pytest.mark.parametrize("length", [1e4, 1e150])
def test_a_trajectory_that_runs_away_is_refused(length):
    action = DimerBath(6, 1.0)
    x, streams = action.hot(make_streams(1, "test", range(2)), (8, 2))
    sampler = HMC(action, length, 3)
    state, info = sampler.step(sampler.init(x, streams), 3)
    assert (info.accepted == 0.0).all()
    np.testing.assert_array_equal(state.x, x)


def test_hot_starts(seed):
    x, streams = DimerBath().hot(make_streams(seed, "test", range(400)), (38, 2))
    length = x[:, 1, 0] - x[:, 0, 0]
    assert set(np.round(length, 9)) == {0.94, 2.06}
    assert 140 < (length > 1.5).sum() < 260
    energies = DimerBath().energy(x)
    assert (energies < 1000.0).all()
    assert len(np.unique(x[:, 2:], axis=0)) > 390
    assert (streams[:, 1] > 0).all()
    assert DimerBath(0).hot(streams, (2, 2))[0].shape == (400, 2, 2)


# Statistics. At scale 0.1 the barrier is 1.6 high, and HMC crosses it all the time.

WARM = 0.1


def test_the_lone_dimer_by_brute_force():
    """log Z, energy and P(open) of four coordinates on a grid."""
    exact = lone_dimer(1.0)
    ends, sides = np.linspace(-1.9, 1.9, 96), np.linspace(-1.1, 1.1, 23)
    volume = (ends[1] - ends[0]) ** 2 * (sides[1] - sides[0]) ** 2
    x1, x2 = np.meshgrid(ends, ends, indexing="ij")
    total, u_total, opened = 0.0, 0.0, 0.0
    for y1 in sides:
        for y2 in sides:
            x = np.stack([x1, np.full_like(x1, y1), x2, np.full_like(x1, y2)], -1).reshape(-1, 2, 2)
            u = DimerBath(0).energy(x)
            weight = np.exp(-u)
            total += weight.sum()
            u_total += (u * weight).sum()
            opened += weight[np.hypot(*(x[:, 0] - x[:, 1]).T) > 1.5].sum()
    assert exact.log_z == pytest.approx(np.log(total * volume), abs=1e-6)
    assert exact.energy == pytest.approx(u_total / total, rel=1e-6)
    assert exact.open_probability == pytest.approx(opened / total, abs=1e-6)
    assert exact.free_energy_difference == pytest.approx(
        -np.log(exact.open_probability / (1.0 - exact.open_probability))
    )


def test_the_mean_energy_of_the_lone_dimer_is_the_slope_of_log_z():
    slope = (lone_dimer(1.001).log_z - lone_dimer(0.999).log_z) / 0.002
    assert -slope == pytest.approx(lone_dimer(1.0).energy, rel=1e-5)
    assert DimerBath(0, 0.05).closed_forms(()) is None
    assert DimerBath(1, 1.0).closed_forms(()) is None


def chains(action, seed, n_chains, n_configs, n_updates):
    """Series (n_configs, n_chains) of every observable."""
    x, streams = action.hot(make_streams(seed, "test", range(n_chains)), action.event_shape(()))
    sampler = HMC(action, 0.8, 10)
    state = sampler.init(x, streams)
    for k in range(100):
        state = sampler.thermalise(state, k / 100)
    series = {one.name: [] for one in action.observables(())}
    for _ in range(n_configs):
        state, info = sampler.step(state, n_updates)
        for one in action.observables(()):
            series[one.name].append(one(state.x))
    assert 0.4 < info.accepted.mean() < 1.0
    return {name: np.array(values) for name, values in series.items()}


def estimates(action, series):
    return {
        quantity.name: (derived(quantity.function or identity, series[one.name]), quantity.exact)
        for one in action.observables(())
        for quantity in one.quantities(())
    }


def test_hmc_of_the_lone_dimer_has_its_closed_forms(seed):
    """P(open), Delta F, d and u; a scale three per cent off is caught."""
    action = DimerBath(0, WARM)
    found = estimates(action, chains(action, seed, 200, 500, 2))
    for scale, caught in ((WARM, False), (1.03 * WARM, True)):
        exact = lone_dimer(scale)
        pulls = {name: (one.value - of(exact)) / one.error for name, (one, of) in found.items()}
        assert len(pulls) == 4
        assert (max(map(abs, pulls.values())) > 4.5) == caught, pulls


def independent(n_bath, n, rng):
    """P(open) and the mean energy of a small bath by weights, with errors: the dimer as HMC draws it alone would take
    another chain, so it is drawn by rejection, and the bath is uniform in a box that reaches into the walls."""
    action, reach, found = DimerBath(n_bath, WARM), 3.8, []
    lone = DimerBath(0, WARM)
    while sum(map(len, found)) < n:
        ends = rng.uniform([-1.9, -1.6], [1.9, 1.6], (400_000, 2, 2))
        found.append(ends[-np.log(rng.random(len(ends))) > WARM * (lone.energy(ends) + 17.0)])
    ends = np.concatenate(found)[:n]
    x = np.concatenate([ends, rng.uniform(-reach, reach, (n, n_bath, 2))], 1)
    w = np.exp(-WARM * (action.energy(x) - lone.energy(ends)))
    results = {}
    for name, values in (("open", np.hypot(*(x[:, 0] - x[:, 1]).T) > 1.5), ("energy", action.energy(x))):
        mean = (w * values).sum() / w.sum()
        results[name] = mean, np.sqrt(np.square(w * (values - mean)).sum()) / w.sum()
    return results


def test_a_bath_of_two_against_weights_of_independent_points(seed, rng):
    """The bath pushes: without it P(open) is another by many errors, and so is a potential of another diameter."""
    action = DimerBath(2, WARM)
    truth = independent(2, 60_000, rng)
    series = chains(action, seed, 200, 500, 2)
    for name, (value, error) in truth.items():
        found = gamma_method(series[name])
        assert abs(found.value - value) < 4.5 * np.hypot(found.error, error), name
    value, error = truth["energy"]
    assert abs(lone_dimer(WARM).energy + 1 / WARM - value) > 6.0 * error


def joined(sampler, lengths, windows):
    settings = {name: getattr(sampler, name) for name in ("n_windows", "q_max", "spring", "centre")}
    return JoinedWindows([window_potentials(settings, chain) for chain in lengths.T], windows.astype(int).tolist())


def test_windows_of_the_lone_dimer_with_swaps(seed):
    """At scale 1 the barrier is 15 high; Delta F is that of the quadrature, and not that of half the scale."""
    action = DimerBath(0, 1.0)
    sampler = Umbrella(action, 24, 400.0, 0.7, 0.15, 4, centre=1.5, exchange_every=4)
    x, streams = action.hot(make_streams(seed, "test", range(96)), (2, 2))
    state = sampler.init(x, streams)
    for k in range(200):
        state = sampler.thermalise(state, k / 200)
    lengths = []
    for _ in range(500):
        state, _ = sampler.step(state, 16)
        lengths.append(state.charge)
    lengths = np.array(lengths)
    (_, quantity) = action.observables(())[1].quantities(())
    found = joined(sampler, lengths, state.window).estimate((lengths > 1.5) * 1.0, function=quantity.function)
    assert found.error < 0.15
    assert abs(found.value - lone_dimer(1.0).free_energy_difference) < 6.0 * found.error
    assert abs(found.value - lone_dimer(0.5).free_energy_difference) > 6.0 * found.error


def test_metadynamics_opens_the_dimer(seed):
    """With its bias the dimer opens and closes, which it hardly does without."""
    action = DimerBath(4, 1.0)
    x, streams = action.hot(make_streams(seed, "test", range(8)), (6, 2))
    meta = Metadynamics(action, 0.3, 16, height=0.5, width=0.05, bias_factor=15.0, q_max=0.9, n_grid=201, centre=1.5)
    state = meta.init(x, streams)
    for k in range(1500):
        state = meta.thermalise(state, k / 1500)
    plain = HMC(action, 0.3, 16)
    of_plain = plain.init(state.x, state.streams)
    assert changes(meta, state) > 10 + 10 * changes(plain, of_plain)


def changes(sampler, state):
    """How often the dimers open or close."""
    length, found = sampler.action.collective_variable().value, 0
    for _ in range(300):
        before = length(state.x) > 1.5
        state, _ = sampler.step(state, 5)
        found += int(((length(state.x) > 1.5) != before).sum())
    return found


def test_multiples_and_paths_stay_dimers():
    action = DimerBath(4, 0.5)
    assert action.multiple_of(DimerBath(4, 2.0)) == 0.25
    assert action.multiple_of(DimerBath(5, 0.5)) is None
    assert action.multiple_of(DoubleWell(0.5)) is None
    assert action.scaled(0.5) == DimerBath(4, 0.25)
    assert action.toward(DimerBath(4, 1.0), 0.25) == DimerBath(4, 0.625)
    x = torch.from_numpy(action.hot(make_streams(1, "test", range(3)), (6, 2))[0])
    for combined in (action.scaled(0.0), action.scaled(-1.0), action.toward(DimerBath(4, 1.0), 3.0)):
        assert combined(x).shape == (3,)
    assert isinstance(action.scaled(0.0), Combined)


def test_delta_f_is_not_a_number_where_a_state_was_never_met():
    (_, quantity) = DimerBath().observables(())[1].quantities(())
    assert quantity.function(0.5) == 0.0
    assert quantity.function(0.25) == pytest.approx(np.log(3.0))
    for p in (0.0, 1.0):
        assert np.isnan(quantity.function(p))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_bath": -1}, "n_bath must be between 0 and 44, got -1"),
        ({"n_bath": 45}, "n_bath must be between 0 and 44, got 45"),
        ({"scale": 0.0}, "scale must be above 0 and at most 100, got 0"),
        ({"scale": float("nan")}, "scale must be above 0 and at most 100, got nan"),
        ({"repulsion": -1.0}, "repulsion must be between 0 and 100, got -1"),
        ({"tether": float("inf")}, "tether must be between 0 and 10000, got inf"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DimerBath(**arguments)
    with pytest.raises(ValueError, match=r"DimerBath has no lattice, got the shape \[4, 4\]"):
        DimerBath().field((4, 4))
