"""Swaps between umbrella windows: the joint distribution stays, trips are counted, bits and older states are kept."""

import json

import numba
import numpy as np
import pytest
from rich.console import Console

from lattice_flows.card.card import parse_card
from lattice_flows.estimates.analysis import analyse_run
from lattice_flows.kernels.random import make_streams
from lattice_flows.production.generate import generate
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.samplers import Umbrella, window_exchange
from lattice_flows.samplers.biased_chains import Bias
from lattice_flows.samplers.exchange import acceptance
from lattice_flows.samplers.state_arrays import flatten, restore
from lattice_flows.samplers.window_exchange import first_swaps, swapped
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.theories import Phi4

FREE, SHAPE = Phi4(0.3, 0.0), (6, 4)
N_WINDOWS, SPRING, Q_MAX = 4, 20.0, 0.5


def windows_of_m():
    """Mean and variance of M in every window: exp(-S) makes M a Gaussian of known variance, and so does the bias."""
    free = FREE.closed_forms(SHAPE).magnetisation_squared
    variance = 1.0 / (1.0 / free + SPRING)
    return SPRING * variance * np.linspace(-Q_MAX, Q_MAX, N_WINDOWS), variance


def begun(sampler, n_sets, seed):
    """Chains in equilibrium in their windows."""
    means, variance = windows_of_m()
    n, rng = n_sets * N_WINDOWS, np.random.default_rng(seed)
    x, streams = FREE.direct_sampler().draw(SHAPE, make_streams(seed, "test", range(n)))
    wanted = np.tile(means, n_sets) + np.sqrt(variance) * rng.normal(size=n)
    return sampler.init(x + (wanted - x.mean((1, 2)))[:, None, None], streams)


TILTS = 1.2 * np.arange(N_WINDOWS)


def tilted(n_sets, rng):
    """Independent s of a normal distribution in windows V_k = -TILTS[k] s, where they have the mean TILTS[k]."""
    values = np.stack([20.0 * TILTS, -20.0 * TILTS], axis=1)  # at the ends of a grid of two points
    bias = Bias(np.tile(values, (n_sets, 1)), 20.0, 0.0)
    s = np.tile(TILTS, n_sets) + rng.normal(size=n_sets * N_WINDOWS)
    keys = rng.integers(2**63, size=s.size, dtype=np.uint64)
    return (s[:, None], 2.0 * s, s, np.stack([keys, np.zeros_like(keys)], axis=1)), bias


@pytest.mark.parametrize(("off", "caught"), [(1.0, False), (1.04, True), (0.96, True)])
def test_swaps_keep_the_joint_distribution(off, caught, seed, monkeypatch):
    """From independent windows sum_b V_b(s_b) is the same on average after swaps. A bias four per cent off in the
    acceptance is caught."""
    monkeypatch.setattr(window_exchange, "acceptance", lambda gain: acceptance(off * gain))
    n_sets = 200_000
    chains, bias = tilted(n_sets, np.random.default_rng(seed))
    before, swaps = chains[2], first_swaps(n_sets * N_WINDOWS, N_WINDOWS)
    for n_rounds in range(2):
        chains, swaps = swapped(chains, bias, swaps, N_WINDOWS, n_rounds)
    changes = (bias.at(chains[2]) - bias.at(before)).reshape(n_sets, N_WINDOWS).sum(1)
    pull = changes.mean() / changes.std() * np.sqrt(n_sets)
    assert (abs(pull) > 4.5) == caught, pull
    squares = ((chains[2] - np.tile(TILTS, n_sets)) ** 2).reshape(n_sets, N_WINDOWS)
    pulls = (squares.mean(0) - 1.0) / squares.std(0) * np.sqrt(n_sets)
    assert (np.abs(pulls).max() > 4.5) == caught, pulls


def test_configurations_move_with_what_belongs_to_them(rng):
    chains, bias = tilted(1000, rng)
    for n_rounds, in_turn in ((0, [1, 1, 1, 1]), (1, [0, 1, 1, 0])):
        (x, action, s, streams), swaps = swapped(chains, bias, first_swaps(4000, N_WINDOWS), N_WINDOWS, n_rounds)
        np.testing.assert_array_equal(x[:, 0], s)
        np.testing.assert_array_equal(action, 2.0 * s)
        np.testing.assert_array_equal(streams[:, 0], chains[3][:, 0])
        np.testing.assert_array_equal((s != chains[2]).reshape(-1, N_WINDOWS).any(0), in_turn)
        of_set = chains[2].reshape(-1, N_WINDOWS)
        np.testing.assert_array_equal(np.take_along_axis(of_set, swaps.trips.replica, 1), s.reshape(-1, N_WINDOWS))
        tried = swaps.acceptance.reshape(-1, N_WINDOWS)
        np.testing.assert_array_equal(tried, tried[:, :1].repeat(N_WINDOWS, 1))
        assert 0.2 < tried.mean() < 0.8


def test_windows_keep_their_distributions(seed):
    """Mean and variance of M in every window, and all variances together, against their closed forms."""
    n_sets, (means, variance) = 150, windows_of_m()
    sampler = Umbrella(FREE, N_WINDOWS, SPRING, Q_MAX, trajectory_length=1.0, n_md_steps=4, exchange_every=1)
    state, series = begun(sampler, n_sets, seed), []
    acceptances, trips = [], 0
    for _ in range(150):
        state, info = sampler.step(state)
        series.append(info.collective_variable)
        acceptances.append(info.swap_acceptance.mean())
        trips += info.round_trips.sum()
    off = np.array(series).reshape(150, n_sets, N_WINDOWS) - means
    means_of_sets = np.concatenate([off.mean(0), (off**2).mean(0) - variance], axis=1)  # (sets, 2 windows)
    pulls = means_of_sets.mean(0) / means_of_sets.std(0) * np.sqrt(n_sets)  # sets are independent
    assert np.abs(pulls).max() < 4.5, pulls
    assert 0.3 < np.mean(acceptances) < 0.6
    assert trips > 100
    assert trips == state.swaps.trips.round_trips.sum()
    np.testing.assert_allclose(state.charge, state.x.mean((1, 2)), rtol=0, atol=1e-13)
    np.testing.assert_allclose(state.action, FREE.evaluate(state.x), rtol=1e-12)
    np.testing.assert_array_equal(state.window, np.arange(len(state.x)) % N_WINDOWS)


def test_round_trips_are_those_of_the_configurations(seed):
    """Counted again from the places of the configurations."""
    sampler = Umbrella(FREE, N_WINDOWS, SPRING, Q_MAX, trajectory_length=1.0, n_md_steps=4, exchange_every=2)
    state, n_sets = begun(sampler, 6, seed), 6
    places, found = [state.swaps.trips.replica.copy()], np.zeros(n_sets, dtype=int)
    for k in range(300):
        state, info = sampler.step(state)
        if k % 2 == 0:
            np.testing.assert_array_equal(state.swaps.trips.replica, places[-1])
        places.append(state.swaps.trips.replica.copy())
        found += info.round_trips.reshape(n_sets, N_WINDOWS)[:, 0].astype(int)
        assert not info.round_trips.reshape(n_sets, N_WINDOWS)[:, 1:].any()
    counted = [sum(trips_of(history) for history in by_replica(np.array(places)[:, k])) for k in range(n_sets)]
    np.testing.assert_array_equal(found, counted)
    assert sum(counted) > 10


def by_replica(places):
    """places (n, windows): the configuration in each window -> for each configuration where it was."""
    return [np.argmax(places == one, axis=1) for one in range(N_WINDOWS)]


def trips_of(history):
    """From the first window to the last one and back."""
    heading, trips = None, 0
    for place in history:
        if place == 0:
            trips += heading == "home"
            heading = "out"
        elif place == N_WINDOWS - 1 and heading == "out":
            heading = "home"
    return trips


def test_bits_do_not_depend_on_groups_of_whole_sets_or_on_calls(seed):
    sampler = Umbrella(FREE, N_WINDOWS, SPRING, Q_MAX, n_md_steps=3, exchange_every=3)

    def run(chains, calls):
        x, streams = FREE.direct_sampler().draw(SHAPE, make_streams(seed, "test", chains))
        state = sampler.init(x, streams)
        for n in calls:
            state, info = sampler.step(state, n)
        return state, info

    whole, info = run(range(12), [7])
    assert int(whole.swaps.n_updates) == 7
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    one_by_one, _ = run(range(12), [1] * 7)
    for name, values in flatten(whole).items():
        np.testing.assert_array_equal(flatten(one_by_one)[name], values, err_msg=name)
    part, part_info = run(range(4, 8), [7])
    for one, other in zip((*part[:5], *part_info), (*whole[:5], *info), strict=True):
        np.testing.assert_array_equal(one, other[4:8])
    np.testing.assert_array_equal(part.swaps.trips.replica, whole.swaps.trips.replica[1:2])


def test_states_are_restored_and_older_ones_too(seed):
    sampler = Umbrella(FREE, N_WINDOWS, SPRING, Q_MAX, n_md_steps=3, exchange_every=2)
    state, _ = sampler.step(begun(sampler, 2, seed), 5)
    other = restore(begun(sampler, 2, seed + 1), flatten(state))
    for one, two in zip(flatten(sampler.step(state, 4)[0]).items(), flatten(sampler.step(other, 4)[0]).items()):
        assert one[0] == two[0]
        np.testing.assert_array_equal(one[1], two[1])
    without = Umbrella(FREE, N_WINDOWS, SPRING, Q_MAX, n_md_steps=3)
    older = flatten(begun(without, 2, seed))
    assert older.keys() == {"x", "action", "charge", "streams", "window"}
    assert restore(begun(without, 2, seed + 1), older).swaps == ()
    _, info = without.step(begun(without, 2, seed))
    assert info._fields == ("accepted", "delta_h", "log_w", "collective_variable", "window")


def test_an_incomplete_set_swaps_nothing(seed):
    sampler = Umbrella(FREE, N_WINDOWS, SPRING, Q_MAX, n_md_steps=3, exchange_every=1)
    x, streams = FREE.direct_sampler().draw(SHAPE, make_streams(seed, "test", range(7)))
    state, info = sampler.step(sampler.init(x, streams), 20)
    alone, _ = sampler.step(sampler.init(x[4:], streams[4:]), 20)
    assert state.swaps.trips.replica.shape == (1, N_WINDOWS)
    assert not info.swap_acceptance[4:].any()
    for k in (0, 1):
        np.testing.assert_array_equal(flatten(alone)["x"][k], state.x[4 + k])


def test_moved_chains_keep_their_trips(seed):
    sampler = Umbrella(FREE, N_WINDOWS, SPRING, Q_MAX, n_md_steps=3, exchange_every=1)
    state, _ = sampler.step(begun(sampler, 2, seed), 5)
    moved = sampler.moved(state, state.x[::-1])
    assert moved.swaps is state.swaps
    np.testing.assert_array_equal(moved.charge, state.charge[::-1])


@pytest.mark.parametrize("every", [-1, 2_000_000])
def test_impossible_intervals_are_refused(every):
    with pytest.raises(ValueError, match="exchange_every"):
        Umbrella(FREE, N_WINDOWS, SPRING, Q_MAX, exchange_every=every)


CARD = """
[theory]
name = "phi4"
shape = [6, 4]
m2 = 0.3
lam = 0.0
[[ensemble]]
name = "windows"
sampler = "umbrella"
n_windows = 4
n_chains = 8
spring = 20.0
q_max = 0.5
n_md_steps = 4
exchange_every = 1
n_configs = 1500
n_thermalisation = 60
store_fields = false
"""


def test_an_ensemble_is_joined_and_its_trips_are_told(tmp_path):
    card = parse_card(CARD)
    folder = RunFolder(tmp_path)
    generate(folder, card, "windows", StopRequest(), Console(quiet=True))
    with analyse_run(folder, card) as analysis:
        found = json.loads(json.dumps(analysis.summary))["ensembles"]["windows"]
    assert found["warnings"] == []
    assert not found["frozen"]
    assert found["round_trips"] > 100
    for name in ("susceptibility", "abs_magnetisation", "energy", "lowest_mode_squared"):
        row = found["observables"][name]
        assert abs(row["value"] - row["exact"]) < 6.0 * row["error"], name  # Student's t of 19 degrees of freedom
