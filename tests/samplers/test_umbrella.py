"""Umbrella sampling: windows joined by MBAR against the closed forms, planted errors, and the analysis of a file."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numba
import numpy as np
import pytest

from lattice_flows.estimates import umbrella_windows
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import SAMPLERS
from lattice_flows.samplers.state_arrays import flatten, restore
from lattice_flows.samplers.umbrella import Umbrella, window_potentials
from lattice_flows.statistics import JoinedWindows, reweighted
from lattice_flows.theories import ExactU1, Plaquette, TopologicalCharge, WilsonU1, sample_u1
from lattice_flows.theories.u1.kernels import fields as u1


def begin(sampler, shape, n_chains, seed):
    x, streams = sample_u1(sampler.action.beta, *shape, make_streams(seed, "test", range(n_chains)))
    return sampler.init(x, streams)


def produced(sampler, shape, n_chains, n_configs, n_updates, seed):
    """The series of chains that have found their windows."""
    state = begin(sampler, shape, n_chains, seed)
    for k in range(80):
        state = sampler.thermalise(state, k / 80)
    series = {"smooth_charge": [], "window": [], "log_w": [], "plaquette": [], "topological_charge": []}
    for _ in range(n_configs):
        state, info = sampler.step(state, n_updates)
        for name in ("smooth_charge", "window", "log_w"):
            series[name].append(getattr(info, name))
        series["plaquette"].append(u1.mean_plaquette(state.x))
        series["topological_charge"].append(u1.topological_charge(state.x))
    return {name: np.array(values) for name, values in series.items()}


def settings(sampler):
    return {name: getattr(sampler, name) for name in ("n_windows", "q_max", "spring", "centre", "variable")}


def pulls(series, options, exact):
    charges = series["smooth_charge"].T
    joined = JoinedWindows(
        [window_potentials(options, charge) for charge in charges], series["window"][0].astype(int).tolist()
    )
    truth = {
        "plaquette": (series["plaquette"], exact.plaquette),
        "charge": (np.rint(series["topological_charge"]), 0.0),
        "charge squared": (np.rint(series["topological_charge"]) ** 2, exact.charge_squared),
    }
    found = {name: (joined.estimate(values), value) for name, (values, value) in truth.items()}
    return {name: (estimate.value - value) / estimate.error for name, (estimate, value) in found.items()}


POINTS = [((6, 6), 2.0, Umbrella(WilsonU1(2.0), 5, 8.0, 1.2, n_md_steps=5), 1)]
POINTS += [((8, 8), 4.0, Umbrella(WilsonU1(4.0), 9, 60.0, 1.75, n_md_steps=8), 3)]
POINTS += [((5, 3), 1.5, Umbrella(WilsonU1(1.5), 3, 10.0, 0.6, n_md_steps=4), 1)]


@pytest.mark.parametrize(("shape", "beta", "sampler", "n_updates"), POINTS, ids=str)
def test_exact_expectation_values(shape, beta, sampler, n_updates, seed):
    """Twenty blocks: a pull is Student's t with 19 degrees of freedom, where 6 is as rare as 4.5 of a normal."""
    series = produced(sampler, shape, 2 * sampler.n_windows, 1000, n_updates, seed)
    found = pulls(series, settings(sampler), ExactU1(beta, shape[0] * shape[1]))
    assert max(map(abs, found.values())) < 6.0, found


def test_a_wrong_spring_in_the_potentials_is_caught(seed):
    """Twenty per cent off, and windows ten per cent out of place, with the statistics that hold the right ones."""
    sampler = Umbrella(WilsonU1(2.0), 5, 20.0, 0.8, n_md_steps=5)
    series = produced(sampler, (4, 4), 30, 600, 8, seed)
    options, exact = settings(sampler), ExactU1(2.0, 16)
    right = pulls(series, options, exact)
    assert max(map(abs, right.values())) < 6.0, right
    for wrong in ({"spring": 16.0}, {"q_max": 0.88}):
        found = pulls(series, {**options, **wrong}, exact)
        assert max(map(abs, found.values())) > 6.0, found


def test_the_weights_of_a_window_are_exact_too(seed):
    sampler = Umbrella(WilsonU1(2.0), 3, 2.0, 0.4, n_md_steps=5)
    series = produced(sampler, (6, 6), 60, 400, 2, seed)
    estimate = reweighted(np.rint(series["topological_charge"]) ** 2, series["log_w"])
    assert abs(estimate.value - ExactU1(2.0, 36).charge_squared) < 4.5 * estimate.error
    unweighted = reweighted(np.rint(series["topological_charge"]) ** 2, 0.0 * series["log_w"])
    assert abs(unweighted.value - ExactU1(2.0, 36).charge_squared) > 4.5 * unweighted.error


def test_chains_stay_in_their_windows(seed):
    sampler = Umbrella(WilsonU1(4.0), 5, 200.0, 1.75, n_md_steps=10)
    series = produced(sampler, (8, 8), 10, 50, 1, seed)
    np.testing.assert_array_equal(series["window"], np.tile(np.arange(10) % 5, (50, 1)))
    centres = np.linspace(-1.75, 1.75, 5)[np.arange(10) % 5]
    assert np.abs(series["smooth_charge"].mean(0) - centres).max() < 0.35


@pytest.mark.parametrize("start", ["cold", "hot"])
def test_thermalisation_brings_chains_into_their_windows(start, rng, seed):
    sampler = Umbrella(WilsonU1(6.0), 9, 100.0, 3.65, n_md_steps=12)
    x = np.zeros((9, 2, 16, 16)) if start == "cold" else rng.uniform(-np.pi, np.pi, (9, 2, 16, 16))
    state = sampler.init(x, make_streams(seed, "test", range(9)))
    for k in range(100):
        state = sampler.thermalise(state, k / 100)
    assert np.abs(state.charge - np.linspace(-3.65, 3.65, 9)).max() < 0.6


def test_the_potentials_are_those_of_the_chains(rng, seed):
    sampler = Umbrella(WilsonU1(2.0), 4, 12.0, 1.2, n_md_steps=5)
    state = begin(sampler, (6, 6), 8, seed)
    potentials = window_potentials(settings(sampler), state.charge)  # (K, 8)
    assert potentials.shape == (4, 8)
    own = potentials[state.window, np.arange(8)]
    np.testing.assert_allclose(sampler.target(state, state.x) - state.action, own, rtol=0, atol=1e-10)
    later, info = sampler.step(state)
    own = window_potentials(settings(sampler), later.charge)[later.window, np.arange(8)]
    np.testing.assert_allclose(info.log_w, own, rtol=0, atol=1e-10)
    q = rng.uniform(-1.2, 1.2, 100)
    harmonic = 6.0 * (q - np.linspace(-1.2, 1.2, 4)[:, None]) ** 2
    np.testing.assert_allclose(window_potentials(settings(sampler), q), harmonic, rtol=0, atol=1e-3)
    far = window_potentials(settings(sampler), np.array([3.4, 50.0, -3.4, -50.0]))
    np.testing.assert_array_equal(far[:, ::2], far[:, 1::2])


def test_moved_chains_keep_their_windows(seed):
    sampler = Umbrella(WilsonU1(2.0), 4, 12.0, 1.2, n_md_steps=5)
    state = begin(sampler, (6, 6), 4, seed)._replace(window=np.array([3, 0, 2, 2]))
    other = begin(sampler, (6, 6), 4, seed + 1)
    moved = sampler.moved(state, other.x)
    np.testing.assert_array_equal(moved.window, [3, 0, 2, 2])
    np.testing.assert_array_equal(moved.charge, other.charge)
    own = window_potentials(settings(sampler), other.charge)[state.window, np.arange(4)]
    np.testing.assert_allclose(sampler.target(state, other.x), other.action + own, rtol=0, atol=1e-10)


def test_a_restored_state_goes_on_with_the_same_bits(seed):
    sampler = Umbrella(WilsonU1(2.0), 4, 12.0, 1.2, n_md_steps=5)
    state, _ = sampler.step(begin(sampler, (6, 6), 3, seed)._replace(window=np.array([3, 0, 2])), 2)
    stored = {name: array.copy() for name, array in flatten(state).items()}
    other = restore(sampler.init(stored["x"], make_streams(99, "other", range(3))), stored)
    for one, two in zip(sampler.step(state, 3)[0], sampler.step(other, 3)[0], strict=True):
        np.testing.assert_array_equal(one, two)
    for name, array in flatten(state).items():
        np.testing.assert_array_equal(array, stored[name])


def test_bits_do_not_depend_on_threads_or_on_groups_of_whole_sets_of_windows(seed):
    """Windows are dealt by the place in the batch: a group that begins elsewhere would get other windows."""
    sampler = Umbrella(WilsonU1(2.0), 2, 12.0, 1.2, n_md_steps=5)

    def run(chains):
        x, streams = sample_u1(2.0, 6, 5, make_streams(seed, "test", chains))
        return sampler.step(sampler.init(x, streams), 10)

    whole, info = run(range(6))
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    for chains in (range(6), range(4, 6)):
        part, part_info = run(chains)
        for one, two in zip((*part, *part_info), (*whole, *info), strict=True):
            np.testing.assert_array_equal(one, two[chains.start :])


def test_tuning_finds_the_steps_and_the_range(seed):
    sampler = Umbrella(WilsonU1(4.0), 9)
    tuned = sampler.tune(begin(sampler, (8, 8), 4, seed), 64)
    sector = tuned.q_max / ExactU1(4.0, 64).plaquette
    assert sector == pytest.approx(round(sector))
    assert tuned.tuned
    assert not sampler.tuned
    assert sampler.with_findings(json.loads(json.dumps(tuned.findings()))) == tuned
    with pytest.raises(ValueError, match="q_max is not set"):
        replace(tuned, q_max=None).step(begin(sampler, (8, 8), 4, seed))


@pytest.mark.parametrize(
    "arguments",
    [{"n_windows": 1}, {"spring": 0.0}, {"spring": 1e308}, {"q_max": 0.0}, {"q_max": 1e300}, {"n_md_steps": 0}],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Umbrella(WilsonU1(1.0), **{"n_windows": 4, **arguments})


class Group(SimpleNamespace):
    """Replicas of one file, as far as the analysis of windows looks at them."""

    def series(self, name):
        return list(self.table[name].T)

    def series_like(self, name, other):
        return [chain[rows] for chain, rows in zip(self.series(name), self.rows(other))]

    def rows(self, name):
        n = len(self.table["smooth_charge"])
        return [np.arange(0, n, self.every.get(name, 1)) for _ in self.table["smooth_charge"].T]


@pytest.fixture
def group(seed):
    sampler = Umbrella(WilsonU1(2.0), 5, 8.0, 1.2, n_md_steps=5)
    table = produced(sampler, (6, 6), 10, 600, 2, seed)
    table["plaquette"] = table["plaquette"][::3]
    return Group(
        sampled_theory={"name": "u1", "shape": [6, 6], "beta": 2.0},
        sampler={"name": "umbrella", **settings(sampler)},
        table=table,
        every={"plaquette": 3},
    )


def terms(group, quantity):
    return [[term.transform(chain) for chain in group.series(term.series)] for term in quantity.terms]


@pytest.mark.parametrize("most", [10**9, 10_000], ids=["all", "thinned"])
def test_an_ensemble_is_joined_on_the_rows_of_each_series(group, most):
    estimate, exact = umbrella_windows.joined_estimator(group, most), ExactU1(2.0, 36)
    for observable in (Plaquette(), TopologicalCharge()):
        for quantity in observable.quantities((6, 6)):
            found = estimate(quantity, terms(group, quantity))
            assert abs(found.value - quantity.exact(exact)) < 6.0 * found.error, quantity.name
    charge = TopologicalCharge().quantities((6, 6))[1]
    together = umbrella_windows.joined_windows(group, Umbrella.windows, group.series("smooth_charge"))
    direct = together.estimate(*terms(group, charge))
    assert (estimate(charge, terms(group, charge)) == pytest.approx(direct, nan_ok=True)) is (most == 10**9)


@pytest.mark.parametrize("name", ["hmc", "imported", "of a newer version"])
def test_what_has_no_windows_is_not_joined(name):
    assert umbrella_windows.joined_estimator(Group(sampler={"name": name})) is None
    assert umbrella_windows.block_doubt(Group(sampler={"name": name})) == ""


def test_windows_need_no_name(group, monkeypatch):
    group.sampler["name"] = "another"
    assert umbrella_windows.joined_estimator(group) is None
    monkeypatch.setitem(SAMPLERS, "another", Umbrella)
    assert umbrella_windows.joined_estimator(group) is not None


def test_what_cannot_be_joined_is_a_value_error(group):
    quantity = TopologicalCharge().quantities((6, 6))[0]
    group.table = {name: values[:5] for name, values in group.table.items()}
    with pytest.raises(ValueError, match="blocks"):
        umbrella_windows.joined_estimator(group)(quantity, terms(group, quantity))
