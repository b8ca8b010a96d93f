"""Replica exchange: exactness of every rung, swaps, round trips, the tuner, bits; and planted errors."""

import json
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, ClassVar, NamedTuple

import numba
import numpy as np
import pytest

from lattice_flows.kernels.random import make_streams, uniforms
from lattice_flows.samplers import HMC, Direct, HeatBath, Overrelaxation, Part, Sampler, replica_exchange
from lattice_flows.samplers.exchange import acceptance, first_trips, swap_gain, travelled, tried_pairs
from lattice_flows.samplers.local import ChainState, NoInfo, chain_state
from lattice_flows.samplers.replica_exchange import ReplicaExchange
from lattice_flows.samplers.state_arrays import flatten, restore
from lattice_flows.samplers.tempering import Tempering, at_equal_barrier
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import ExactU1, Phi4, WilsonU1, sample_u1
from lattice_flows.theories.u1.kernels import fields as u1


def hmc(action, n_md_steps=5):
    return HMC(action, 1.0, n_md_steps)


def tempering(values, replica=hmc, **options):
    return Tempering(WilsonU1(values[0]), replica, values=values, **options)


def direct(betas, shape, seed, name):
    """One configuration per beta, each with a stream of its own."""
    streams = make_streams(seed, name, range(len(betas)))
    return np.concatenate([sample_u1(beta, *shape, streams[k : k + 1])[0] for k, beta in enumerate(betas)])


def in_equilibrium(exchange, betas, shape, seed):
    """A state whose rung k is drawn directly at betas[k] (one value per chain), so that nothing is thermalised."""
    fresh = exchange.init(direct(betas[0], shape, seed, "x"), make_streams(seed, "chains", range(len(betas[0]))))
    rungs = tuple(
        part.sampler.moved(rung, direct(of_chains, shape, seed, f"rung {k}"))
        for k, (part, rung, of_chains) in enumerate(zip(exchange.parts, fresh.rungs, betas))
    )
    return fresh._replace(x=rungs[0].x, rungs=rungs)


def begin(sampler, shape, n_chains, seed):
    return in_equilibrium(sampler.exchange, [[value] * n_chains for value in sampler.ladder], shape, seed)


def fields_of_rungs(sampler, state, n):
    """Configurations of rung 0 and of the last rung after each of n updates, (n, B, *event) each."""
    first, last = [], []
    for _ in range(n):
        state, _ = sampler.step(state)
        first.append(state.x)
        last.append(state.rungs[-1].x)
    return np.stack(first), np.stack(last)


def pulls_of(fields, beta):
    """Pulls of the plaquette, a Wilson loop and <Q^2> of fields (n, B, 2, L0, L1) from the closed forms."""
    exact = ExactU1(beta, fields.shape[-2] * fields.shape[-1])
    flat = fields.reshape(-1, *fields.shape[2:])
    measured = {
        "plaquette": (u1.mean_plaquette(flat), exact.plaquette),
        "wilson_loop_1x2": (u1.mean_wilson_loop(flat, 1, 2), exact.wilson_loop(2)),
        "charge_squared": (np.square(charges(flat)), exact.charge_squared),
    }
    found = {}
    for name, (series, expected) in measured.items():
        estimate = gamma_method(series.reshape(fields.shape[:2]))
        found[name] = (estimate.value - expected) / estimate.error
    return found


def worst(pulls):
    return max(map(abs, pulls.values()))


def charges(fields):
    return np.rint(u1.topological_charge(fields))


@pytest.mark.parametrize(
    ("shape", "values", "replica"),
    [
        ((4, 4), (1.0, 0.2), hmc),
        ((8, 8), (2.0, 1.5, 1.1, 0.8), hmc),
        ((6, 10), (1.5, 1.9, 2.4), hmc),
        ((3, 5), (2.5, 2.0, 1.4, 0.9, 0.5), HeatBath),
        ((16, 16), (3.0, 2.7, 2.4), hmc),
    ],
)
def test_the_first_and_the_last_rung_are_exact(shape, values, replica, seed):
    sampler = tempering(values, replica)
    first, last = fields_of_rungs(sampler, begin(sampler, shape, 16, seed), 800)
    assert worst(pulls_of(first, values[0])) < 4.5
    assert worst(pulls_of(last, values[-1])) < 4.5


class TargetOff(HeatBath):
    """Swaps with the action at a beta one per cent off; the sweeps are right."""

    def target(self, state, x):
        return 1.01 * super().target(state, x)


def first_off(action):
    return TargetOff(action) if action.beta == 3.0 else HeatBath(action)


@pytest.mark.parametrize(
    ("replica", "wrong_acceptance"),
    [
        (HeatBath, None),
        (first_off, None),
        (HeatBath, np.ones_like),
        (HeatBath, lambda gain: acceptance(-gain)),
    ],
    ids=["right", "beta one per cent off", "always accepted", "wrong sign"],
)
def test_planted_errors_of_the_swap_are_seen(replica, wrong_acceptance, monkeypatch, seed):
    if wrong_acceptance:
        monkeypatch.setattr(replica_exchange, "acceptance", wrong_acceptance)
    sampler = tempering((3.0, 2.85), replica)
    first, last = fields_of_rungs(sampler, begin(sampler, (8, 8), 64, seed), 900)
    found = max(worst(pulls_of(first, 3.0)), worst(pulls_of(last, 2.85)))
    assert (found > 4.5) == (replica is first_off or wrong_acceptance is not None), found


@dataclass(frozen=True)
class Toy(Sampler):
    """A variable with a few values of given energies, which no update moves."""

    action: Any
    energies: tuple[float, ...]

    def init(self, x, streams):
        return ChainState(x.copy(), streams.copy())

    def step(self, state, n_updates=1):
        return state, NoInfo()

    def target(self, state, x):
        return np.array(self.energies)[x[:, 0].astype(int)]


def test_swaps_are_in_detailed_balance_by_brute_force(seed):
    """On all pairs of states of two two-state rungs; and the frequency of swaps is the acceptance."""
    rungs = Toy(None, (0.0, 1.3)), Toy(None, (0.4, -0.5))
    exchange = ReplicaExchange(None, (Part(rungs[0]), Part(rungs[1])))

    def weight(a, b):
        return np.exp(-rungs[0].energies[a] - rungs[1].energies[b])

    def state(pairs, name):
        xy, streams = np.array(pairs, dtype=float), make_streams(seed, name, range(len(pairs)))
        start = exchange.init(xy[:, :1], streams)
        return start._replace(rungs=(start.rungs[0], rungs[1].moved(start.rungs[1], xy[:, 1:])))

    pairs = list(product((0, 1), repeat=2))
    of_pairs = state(pairs, "all")
    accepted = dict(zip(pairs, acceptance(swap_gain(*rungs, *of_pairs.rungs))))
    for a, b in pairs:
        assert weight(a, b) * accepted[a, b] == pytest.approx(weight(b, a) * accepted[b, a], rel=1e-14)
    assert accepted[1, 0] == 1.0
    assert accepted[0, 1] == pytest.approx(np.exp((0.0 - 0.5) - (1.3 + 0.4)), rel=1e-14)

    n = 40_000
    later, _ = exchange.swap(state([(0, 1)] * n, "many"))
    swapped = later.x[:, 0] == 1.0
    np.testing.assert_array_equal(later.rungs[1].x[:, 0], np.where(swapped, 0.0, 1.0))
    np.testing.assert_array_equal(later.trips.replica[:, 0], swapped)
    p = accepted[0, 1]
    assert abs(swapped.mean() - p) < 4.5 * np.sqrt(p * (1 - p) / n)


def test_a_gain_that_is_not_a_number_is_refused():
    np.testing.assert_array_equal(acceptance(np.array([np.nan, -np.inf, np.inf, 0.0, 800.0])), [0, 0, 1, 1, 1])


def test_even_and_odd_pairs_swap_in_turn():
    assert [list(tried_pairs(k, 5)) for k in range(3)] == [[0, 2], [1, 3], [0, 2]]
    assert [list(tried_pairs(k, 4)) for k in range(2)] == [[0, 2], [1]]
    assert [list(tried_pairs(k, 2)) for k in range(2)] == [[0], [0]]


def test_round_trips_of_a_scripted_permutation():
    trips, counts = first_trips(2, 3), []
    low, high, stay = [1, 0, 2], [0, 2, 1], [0, 1, 2]
    script = [low, high, stay, high, low, low, high, high, low]  # replica 0 goes up, comes back, and does it again
    for order in script:
        trips = travelled(trips, np.array([order, stay]))
        counts.append(trips.round_trips.tolist())
    assert counts == [[0, 0]] * 4 + [[1, 0]] * 4 + [[2, 0]]
    np.testing.assert_array_equal(trips.replica, [[0, 1, 2], [0, 1, 2]])


def test_a_replica_that_begins_on_the_last_rung_has_half_a_trip_only():
    trips = first_trips(1, 3)
    for order in ([0, 2, 1], [1, 0, 2]):
        trips = travelled(trips, np.array([order]))
    np.testing.assert_array_equal(trips.replica, [[2, 0, 1]])
    assert trips.round_trips.tolist() == [0]


def test_round_trips_agree_with_the_replicas_paths(seed):
    sampler = tempering((1.5, 1.2, 0.9), n_between_swaps=2)
    state, reported = begin(sampler, (4, 4), 4, seed), np.zeros(4)
    places = [np.argsort(state.trips.replica, axis=1)]  # (B, R): the rung of each replica
    for _ in range(60):
        state, info = sampler.step(state)
        reported += info.round_trips
        places.append(np.argsort(state.trips.replica, axis=1))
    path, expected = np.stack(places), np.zeros(4)
    for chain, replica in product(range(4), range(3)):
        ends = [rung for rung in path[:, chain, replica] if rung != 1]
        turns = "".join("0L"[int(rung > 0)] for k, rung in enumerate(ends) if k == 0 or ends[k - 1] != rung)
        expected[chain] += turns.lstrip("L").count("L0")
    np.testing.assert_array_equal(state.trips.round_trips, expected)
    np.testing.assert_array_equal(reported, expected)
    assert expected.min() > 0


def swap_acceptances(sampler, state, n):
    """The estimate of each neighbouring pair's swap acceptance."""
    found = [[] for _ in sampler.ladder[1:]]
    for _ in range(n):
        pairs = tried_pairs(int(state.n_rounds), len(sampler.ladder))
        state, probabilities = sampler.exchange.swap(sampler.exchange.update(state)[0])
        for column, k in enumerate(pairs):
            found[k].append(probabilities[:, column])
    return [gamma_method(np.stack(of_pair)) for of_pair in found]


def test_the_tuned_ladder_has_equal_swap_acceptances(seed):
    """Each pair's acceptance agrees with the mean of all within the errors of the pilots and of this measurement."""
    open_ladder = Tempering(WilsonU1(4.0), Direct, last=1.0, n_replicas=6)
    n = 1500
    sampler = open_ladder.tune(begin(open_ladder, (8, 8), 8, seed), n)
    assert (sampler.ladder[0], sampler.ladder[-1], len(sampler.ladder)) == (4.0, 1.0, 6)
    estimates = swap_acceptances(sampler, begin(sampler, (8, 8), 8, seed), n)
    values, errors = np.array([(e.value, e.error) for e in estimates]).T
    # The last round of pilots measured n/2 updates in as many chains: its errors are sqrt(2) larger.
    assert (np.abs(values - values.mean()) < 4.5 * np.sqrt(3.0) * errors).all(), values
    untuned = swap_acceptances(tempering(open_ladder.ladder, Direct), begin(open_ladder, (8, 8), 8, seed), n)
    values = np.array([e.value for e in untuned])
    assert (np.abs(values - values.mean()) > 4.5 * np.sqrt(3.0) * errors).any(), "the start ladder would pass too"


def test_rungs_at_equal_barrier():
    assert at_equal_barrier((6.0, 4.0, 2.0), (0.5, 0.5)) == (6.0, 4.0, 2.0)
    # lambda = 1 above 4 and 3 below it: a quarter of the barrier is at 4.
    first, second, third = at_equal_barrier((6.0, 4.0, 2.0), (0.2, 0.6))
    assert (first, third) == (6.0, 2.0)
    assert 2.0 < second < 4.0
    assert len(set(at_equal_barrier((1.0, 2.0, 3.0), (0.0, 0.0)))) == 3


def test_tuning_from_a_hot_start_tunes_the_rungs_too(seed):
    u, streams = uniforms(make_streams(seed, "hot", range(8)), 128)
    texts = []
    sampler = Tempering(WilsonU1(6.0), HMC, last=1.5, n_replicas=5)
    assert not sampler.tuned
    state = sampler.init(2 * np.pi * (u.reshape(8, 2, 8, 8) - 0.5), streams)
    tuned = sampler.tune(state, 100, texts.append)
    assert tuned.tuned
    assert tuned.tune(state, 100) is tuned
    assert texts
    sizes = [rung["trajectory_length"] / rung["n_md_steps"] for rung in tuned.findings()["rungs"]]
    assert sizes[0] < sizes[-1], sizes
    _, info = tuned.step(begin(tuned, (8, 8), 8, seed), 200)
    assert 0.65 < info.accepted.mean() < 0.95
    assert 0.1 < info.swap_acceptance.mean() < 0.9


def test_tempering_moves_the_charge_where_hmc_hardly_does(seed):
    """More than five times as many changes of Q as of plain HMC, per update of the target."""
    n, values = 1000, (6.0, 4.4, 3.2, 2.3, 1.5)
    sampler, plain = tempering(values, partial(hmc, n_md_steps=8)), hmc(WilsonU1(6.0), 8)

    def changes(sampler, state):
        found = []
        for _ in range(n):
            state, _ = sampler.step(state)
            found.append(charges(state.x))
        return np.count_nonzero(np.diff(found, axis=0), axis=0)  # (B,)

    start = begin(sampler, (8, 8), 16, seed)
    tempered, frozen = changes(sampler, start), changes(plain, start.rungs[0])
    error = np.sqrt((tempered.var(ddof=1) + 25 * frozen.var(ddof=1)) / 16)
    assert tempered.mean() - 5 * frozen.mean() > 4.5 * error, (tempered, frozen)


@pytest.fixture(params=["hmc", "heatbath"])
def sampler(request):
    return tempering((1.0, 0.7, 0.5, 0.3), {"hmc": hmc, "heatbath": HeatBath}[request.param])


def from_one_start(sampler, chains, seed):
    return sampler.init(*sample_u1(1.0, 4, 4, make_streams(seed, "test", chains)))


def assert_same(a, b):
    a, b = flatten(a), flatten(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_step_leaves_its_argument_alone(sampler, seed):
    state = from_one_start(sampler, range(3), seed)
    before = {name: array.copy() for name, array in flatten(state).items()}
    later, _ = sampler.step(state, 4)
    for name, array in flatten(state).items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    assert_same(later, sampler.step(state, 4)[0])
    assert (later.trips.replica != state.trips.replica).any()


def test_many_updates_at_once_are_as_one_by_one(sampler, seed):
    state = from_one_start(sampler, range(4), seed)
    together, info = sampler.step(state, 5)
    infos = []
    for _ in range(5):
        state, each = sampler.step(state)
        infos.append(each)
    assert_same(together, state)
    np.testing.assert_array_equal(info.round_trips, sum(each.round_trips for each in infos))
    weights = [2, 1, 2, 1, 2]  # pairs tried
    mean = np.average([each.swap_acceptance for each in infos], axis=0, weights=weights)
    np.testing.assert_allclose(info.swap_acceptance, mean, rtol=1e-13)
    if hasattr(info, "accepted"):
        np.testing.assert_allclose(info.accepted, np.mean([each.accepted for each in infos], axis=0), rtol=1e-13)


def test_a_restored_state_goes_on_with_the_same_bits(sampler, seed):
    state, _ = sampler.step(from_one_start(sampler, range(3), seed), 3)
    stored = {name: array.copy() for name, array in flatten(state).items()}
    assert all(isinstance(array, np.ndarray) for array in flatten(state).values())
    template = sampler.init(stored["x"], make_streams(99, "other", range(3)))
    assert_same(sampler.step(state, 3)[0], sampler.step(restore(template, stored), 3)[0])


def test_findings_survive_json_and_give_the_same_bits(seed):
    untuned = Tempering(WilsonU1(2.0), HMC, last=0.5, n_replicas=3)
    state = begin(untuned, (4, 4), 4, seed)
    tuned = untuned.tune(state, 16)
    again = untuned.with_findings(json.loads(json.dumps({"sampler": "tempering", **tuned.findings()})))
    assert again == tuned
    assert_same(tuned.step(state, 3)[0], again.step(state, 3)[0])
    given = tempering(tuned.values, HMC)
    assert not given.tuned
    assert given.with_findings(tuned.findings()).exchange.parts == tuned.exchange.parts
    assert [part.sampler.action.beta for part in given.tune(state, 16).exchange.parts] == list(tuned.values)


def test_the_same_bits_for_any_threads_and_grouping(sampler, seed):
    whole, _ = sampler.step(from_one_start(sampler, range(6), seed), 6)
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    threaded, _ = sampler.step(from_one_start(sampler, range(6), seed), 6)
    part, _ = sampler.step(from_one_start(sampler, range(4, 6), seed), 6)
    assert_same(whole, threaded)
    for name, array in flatten(whole).items():
        of_chains = array[4:] if array.ndim else array
        np.testing.assert_array_equal(of_chains, flatten(part)[name], err_msg=name)


def test_thermalising_swaps_too_and_moving_keeps_the_other_rungs(sampler, seed):
    state = from_one_start(sampler, range(4), seed)
    later = sampler.thermalise(sampler.thermalise(state, 0.1), 0.9)
    assert later.n_rounds == 2
    assert (later.trips.replica != state.trips.replica).any()
    moved = sampler.moved(later, state.x)
    np.testing.assert_array_equal(moved.x, state.x)
    np.testing.assert_array_equal(moved.rungs[0].x, state.x)
    assert_same(moved.rungs[1:], later.rungs[1:])
    np.testing.assert_array_equal(sampler.target(moved, state.x), WilsonU1(1.0).evaluate(state.x))


def test_any_coupling_of_any_theory():
    sampler = Tempering(Phi4(-0.5, 0.5), partial(HMC, n_md_steps=4), last=0.5, coupling="m2", n_replicas=3)
    assert sampler.ladder == (-0.5, 0.0, 0.5)
    assert [part.sampler.action for part in sampler.exchange.parts] == [Phi4(m2, 0.5) for m2 in (-0.5, 0.0, 0.5)]
    assert Tempering(WilsonU1(8.0), HMC, last=2.0, n_replicas=3).ladder == pytest.approx((8.0, 4.0, 2.0))


class BiasedState(NamedTuple):
    """The links, the streams, and the strength of each chain's bias, (B,)."""

    x: np.ndarray
    streams: np.ndarray
    strength: np.ndarray


@dataclass(frozen=True)
class Biased(Sampler):
    """Metropolis updates of random links with the target (1 + strength) S."""

    action: WilsonU1
    weighted: ClassVar[bool] = True

    def init(self, x, streams):
        return BiasedState(*chain_state(self.action, x, streams), np.zeros(len(x)))

    def moved(self, state, x):
        return state._replace(x=x)

    def target(self, state, x):
        return (1.0 + state.strength) * self.action.evaluate(x)

    def step(self, state, n_updates=1):
        x, chains = state.x, np.arange(len(state.x))
        u, streams = uniforms(state.streams, 3 * n_updates)  # (B, 3 n)
        for place, change, decision in zip(*[iter(u.T)] * 3):
            trial = x.reshape(len(x), -1).copy()
            link = trial[chains, (place * trial.shape[1]).astype(int)] + 4.0 * (change - 0.5)
            trial[chains, (place * trial.shape[1]).astype(int)] = np.remainder(link + np.pi, 2 * np.pi) - np.pi
            trial = trial.reshape(x.shape)
            accept = np.log(decision) < Biased.target(self, state, x) - Biased.target(self, state, trial)
            x = np.where(accept[:, None, None, None], trial, x)
        return state._replace(x=x, streams=streams), NoInfo()


class SwapsWithoutBias(Biased):
    """Planted: the swap forgets the bias."""

    def target(self, state, x):
        return self.action.evaluate(x)


@pytest.mark.parametrize("biased", [Biased, SwapsWithoutBias])
def test_an_exchange_with_a_biased_chain_is_exact(biased, seed):
    action, strengths = WilsonU1(2.0), np.linspace(0.1, 0.4, 48)
    sampler = ReplicaExchange(action, (Part(HMC(action, 0.25, 2)), Part(biased(action), 4)))
    state = in_equilibrium(sampler, [[2.0] * 48, 2.0 * (1.0 + strengths)], (4, 4), seed)
    state = state._replace(rungs=(state.rungs[0], state.rungs[1]._replace(strength=strengths)))
    first, _ = fields_of_rungs(sampler, state, 1500)
    found = worst(pulls_of(first, 2.0))
    assert (found < 4.5) == (biased is Biased), found


def test_an_exchange_passes_its_parts_findings_on(seed):
    action = WilsonU1(1.0)
    sampler = ReplicaExchange(action, (Part(HMC(action)), Part(HeatBath(action), 3)))
    state = from_one_start(sampler, range(3), seed)
    assert not sampler.tuned
    tuned = sampler.tune(state, 16)
    assert tuned.tuned
    assert sampler.with_findings(json.loads(json.dumps(tuned.findings()))) == tuned


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "give last"),
        ({"last": 2.0}, "last must be"),
        ({"last": float("nan")}, "last must be"),
        ({"last": -1.0}, "beta must be"),
        ({"last": 1.0, "coupling": "kappa"}, "coupling must be one of beta"),
        ({"last": 1.0, "n_replicas": 1}, "n_replicas must be between 2 and 1000"),
        ({"last": 1.0, "n_between_swaps": 0}, "n_between_swaps must be between 1 and 10000"),
        ({"values": (2.0,)}, "must hold 2 to 1000 couplings, got 1"),
        ({"values": (2.5, 1.0)}, "begin with the target's beta = 2.0"),
        ({"values": (2.0, 1.0, 1.5)}, "rise or fall"),
        ({"values": (2.0, 1.0, 1.0)}, "rise or fall"),
        ({"values": (2.0, 1.0), "last": 0.5}, "end with last"),
        ({"values": (2.0, 1.0), "rungs": (hmc(WilsonU1(2.0)),)}, "there must be as many rungs"),
        ({"last": 1.0, "replica": Overrelaxation}, "replica must reach every configuration"),
        ({"last": 1.0, "replica": Biased}, "need no weights"),
    ],
)
def test_impossible_ladders_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        Tempering(WilsonU1(2.0), **{"replica": hmc, **options})


def test_an_open_ladder_refuses_to_step(seed):
    sampler = Tempering(WilsonU1(2.0), hmc, last=1.0)
    with pytest.raises(ValueError, match="the ladder is not set"):
        sampler.step(begin(sampler, (4, 4), 1, seed))


class WithoutTarget(Biased):
    """Weighted, and ignorant of its own target."""

    target = Sampler.target


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([hmc], "at least two"),
        ([Biased, hmc], "first of the parts"),
        ([Overrelaxation, Overrelaxation], "none of the parts"),
        ([hmc, WithoutTarget], "knows its own target"),
    ],
)
def test_impossible_parts_are_refused(parts, text):
    action = WilsonU1(2.0)
    with pytest.raises(ValueError, match=text):
        ReplicaExchange(action, tuple(Part(build(action)) for build in parts))
