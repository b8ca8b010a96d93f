"""Annealed importance sampling: exact weights at any protocol, and the paths backwards."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.kernels.random import make_streams, split_streams
from lattice_flows.samplers import HMC, Annealed, Cluster, HeatBath, Metropolis, Tempering
from lattice_flows.samplers.annealing_path import AnnealingPath, Paths, updated
from lattice_flows.samplers.protocol import improved_protocol, times
from lattice_flows.statistics import bennett, effective_sample_size, log_partition
from lattice_flows.theories import XY, Action, ImprovedU1, Ising, Phi4, WilsonU1

CASES = {
    "u1 4x4": (Annealed(WilsonU1(2.0), HeatBath, {"beta": 0.5}, 8, (0.0, 1.0)), (4, 4)),
    "u1 8x8, another protocol": (Annealed(WilsonU1(1.5), HeatBath, {"beta": 1.0}, 6, (0.0, 0.7, 0.8, 1.0)), (8, 8)),
    "u1 4x4 by hmc": (Annealed(WilsonU1(1.5), lambda a: HMC(a, 1.0, 3), {"beta": 0.7}, 5, (0.0, 1.0)), (4, 4)),
    "u1_improved": (
        Annealed(ImprovedU1(1.5, -1 / 12), lambda a: HMC(a, 1.0, 4), {"beta": 1.0, "c1": 0.0}, 5, (0.0, 1.0)),
        (4, 4),
    ),
    "phi4 8x8": (Annealed(Phi4(0.3, 0.0), HeatBath, {"m2": 0.6}, 8, (0.0, 0.5, 1.0)), (8, 8)),
    "ising": (Annealed(Ising(0.35), lambda a: Metropolis(a), {"beta": 0.0}, 10, (0.0, 1.0)), (4, 4)),
    "ising by clusters": (Annealed(Ising(0.35), Cluster, {"beta": 0.0}, 10, (0.0, 1.0)), (4, 3)),
}
each_case = pytest.mark.parametrize(("sampler", "shape"), CASES.values(), ids=CASES)


def weights(sampler, shape, n, seed):
    """The ends of n paths with their log w, and the distance of log Z from the closed form, in errors."""
    event = sampler.action.event_shape(shape)
    x, log_w = sampler.samples(make_streams(seed, "test", range(n)), event)
    value, error = log_partition(log_w)
    return x, log_w, (value - sampler.action.closed_forms(shape).log_z) / error


@each_case
def test_the_mean_weight_is_z(sampler, shape, seed):
    _, log_w, pull = weights(sampler, shape, 6000, seed)
    assert effective_sample_size(log_w).value > 0.1, "or the test tells nothing"
    assert abs(pull) < 4.5


def test_one_step_without_any_update_before_it_is_reweighting(seed):
    _, _, pull = weights(Annealed(WilsonU1(1.2), HeatBath, {"beta": 1.0}, 1, (0.0, 1.0)), (4, 4), 6000, seed)
    assert abs(pull) < 4.5


def test_work_taken_after_the_update_is_caught(seed, monkeypatch):
    def after(self, x, streams):
        for k in range(1, len(self.times)):
            x = updated(self.kernel(self.action(k)), x, split_streams(streams, k))
            yield Paths(x, self.action(k).evaluate(x) - self.action(k - 1).evaluate(x))

    monkeypatch.setattr(AnnealingPath, "_steps", after)
    _, _, pull = weights(*CASES["u1 4x4"], 6000, seed)
    assert abs(pull) > 4.5


@each_case
def test_paths_backwards_have_the_same_log_z(sampler, shape, seed):
    """From configurations of the target: mean 1/w is 1/Z, and Bennett's estimate of both directions is log Z."""
    direct, event = sampler.action.direct_sampler(), sampler.action.event_shape(shape)
    streams = make_streams(seed, "target", range(6000))
    x = direct.draw(event, streams)[0] if direct else by_weights(sampler, shape, 6000, seed)
    back = sampler.reversed_weights(x, make_streams(seed, "back", range(6000)))
    _, forth, _ = weights(sampler, shape, 6000, seed)
    exact = sampler.action.closed_forms(shape).log_z
    inverse, joined = log_partition(-back), bennett(forth, back)
    assert abs(inverse.value + exact) < 4.5 * inverse.error
    assert abs(joined.value - exact) < 4.5 * joined.error
    assert joined.error < log_partition(forth).error, "both directions tell more than one"


def by_weights(sampler, shape, n, seed):
    """Configurations of a target that cannot be drawn directly: paths resampled by their weights."""
    better = replace(sampler, n_steps=200)
    x, log_w, _ = weights(better, shape, 2 * n, seed)
    w = np.exp(log_w - log_w.max())
    return x[np.random.default_rng(seed).choice(len(x), n, p=w / w.sum())]


def test_forward_and_backward_weights_obey_crooks(seed):
    """E[w g(w)] of paths forth is Z E[g(w)] of paths back, for any g: here steps, which see the whole distribution."""
    sampler, shape = CASES["u1 4x4"]
    back, forth = back_and_forth(sampler, shape, 8000, seed)
    assert worst_of_crooks(forth, back, sampler.action.closed_forms(shape).log_z) < 4.5


def test_paths_that_leave_out_the_updates_backwards_are_caught(seed, monkeypatch):
    """Their works are those of sudden changes: more spread, with the same mean of 1/w."""
    sampler, shape = CASES["u1 4x4"]

    def sudden(self, x, streams):
        return Paths(x, self.last.evaluate(x) - self.first.evaluate(x))

    _, forth = back_and_forth(sampler, shape, 8000, seed)
    monkeypatch.setattr(AnnealingPath, "backward", sudden)
    direct = sampler.action.direct_sampler()
    x, _ = direct.draw((2, *shape), make_streams(seed, "target", range(8000)))
    back = sampler.reversed_weights(x, make_streams(seed, "back", range(8000)))
    assert worst_of_crooks(forth, back, sampler.action.closed_forms(shape).log_z) > 4.5


def back_and_forth(sampler, shape, n, seed):
    x, _ = sampler.action.direct_sampler().draw((2, *shape), make_streams(seed, "target", range(n)))
    back = sampler.reversed_weights(x, make_streams(seed, "back", range(n)))
    return back, weights(sampler, shape, n, seed)[1]


def worst_of_crooks(forth, back, log_z):
    edges = np.quantile(back, [0.1, 0.3, 0.5, 0.7, 0.9])
    pulls = []
    for low, high in pairwise(edges):
        one = np.exp(forth - log_z) * ((forth > low) & (forth < high))
        other = ((back > low) & (back < high)).astype(float)
        error = np.sqrt(one.var() / len(one) + other.var() / len(other))
        pulls.append(abs(one.mean() - other.mean()) / error)
    return max(pulls)


def test_the_bits_do_not_depend_on_the_batch(seed):
    sampler, shape = CASES["u1 4x4"]
    start = np.zeros((3, 2, *shape))
    ends = []
    for batch_size in (1, 5, 100):
        one = replace(sampler, batch_size=batch_size)
        state = one.init(start, make_streams(seed, "test", range(3)))
        state, info = one.step(state, 4)
        later, _ = one.step(state, 3)
        ends.append((state.x, info.proposal_log_w, later.x))
    for other in ends[1:]:
        for a, b in zip(ends[0], other):
            np.testing.assert_array_equal(a, b)


def test_tuning_finds_a_protocol_that_fluctuates_less(seed):
    """From weak to strong coupling the plaquettes change fast at first: the linear protocol wastes its end."""
    open_ = Annealed(WilsonU1(12.0), HeatBath, {"beta": 0.2}, 30)
    state = open_.init(np.zeros((8, 2, 8, 8)), make_streams(seed, "tune", range(8)))
    tuned = open_.tune(state, 128)
    assert not open_.tuned
    assert tuned.tuned
    linear = replace(open_, protocol=(0.0, 1.0))
    spreads = [weights(one, (8, 8), 1000, seed)[1].var() for one in (linear, tuned)]
    assert spreads[1] < 0.75 * spreads[0]
    assert tuned.protocol[8] < 0.4, "half of the time goes to the first part of the way"


def test_a_constant_friction_keeps_the_linear_protocol(rng):
    t = times((0.0, 1.0), 64)
    slopes = rng.normal(size=(64, 50_000))  # white noise
    np.testing.assert_allclose(improved_protocol(t, slopes), np.linspace(0.0, 1.0, 17), atol=0.02)


def test_the_kernel_is_tuned_at_the_target(seed):
    open_ = Annealed(WilsonU1(3.0), HMC, {"beta": 1.0}, 4)
    state = open_.init(np.zeros((8, 2, 4, 4)), make_streams(seed, "tune", range(8)))
    tuned = open_.tune(state, 64)
    assert tuned.inner[0].n_md_steps is not None
    assert abs(weights(tuned, (4, 4), 3000, seed)[2]) < 4.5
    again = open_.with_findings(tuned.findings())
    assert again.findings() == tuned.findings()


CARD = """
[theory]
name = "{theory}"
[[ensemble]]
name = "a"
sampler = "annealed"
{keys}
"""
U1 = 'u1"\nshape = [4, 4]\nbeta = 2.0 #'
KERNEL = 'kernel = {sampler = "heatbath"}\n'
REFUSED = {
    "no initial": (U1, KERNEL, "the key 'initial' is missing"),
    "unknown coupling": (U1, KERNEL + "initial = {mass = 1.0}", "initial: there is no 'mass' in this theory"),
    "no direct sampler": (
        'phi4"\nshape = [4]\nm2 = 1.0\nlam = 1.0 #',
        KERNEL + "initial = {m2 = 2.0}",
        "initial: there is no direct sampler for Phi4",
    ),
    "no kernel": (U1, "initial = {beta = 1.0}", "the key 'kernel' is missing"),
    "falling": (U1, KERNEL + "initial = {beta = 1.0}\nprotocol = [0.0, 0.5, 0.4, 1.0]", "protocol must hold"),
    "no steps": (U1, KERNEL + "initial = {beta = 1.0}\nn_steps = 0", "n_steps must be between 1 and"),
    "a table": (U1, KERNEL + "initial = 1.0", "initial = 1.0: input should be a table"),
    "nameless": (U1, "kernel = {}\ninitial = {beta = 1.0}", r"kernel: the key 'sampler' is missing"),
    "not a number": (U1, KERNEL + "initial = {beta = 1.0}\nprotocol = [0.0, nan, 1.0]", "protocol must hold"),
}


@pytest.mark.parametrize(("theory", "keys", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_path_is_refused_in_one_line(theory, keys, message):
    with pytest.raises(InputError, match=message) as told:
        parse_card(CARD.format(theory=theory, keys=keys))
    assert "\n" not in str(told.value)


def test_there_is_no_thermalisation_unless_a_card_asks_for_one():
    card = CARD.format(theory=U1, keys=KERNEL + "initial = {beta = 1.0}")
    assert parse_card(card).ensemble("a").n_thermalisation == 0
    assert parse_card(card + "n_thermalisation = 3\n").ensemble("a").n_thermalisation == 3


class Foreign(Phi4):
    """A theory that knows neither sweeps backwards nor what is between it and another one."""

    def local_updates(self, event):
        return super().local_updates(event)

    def toward(self, other, t):
        return Action.toward(self, other, t)


class OneWay(Phi4):
    def local_updates(self, event):
        return super().local_updates(event)


def test_sweeps_of_a_theory_that_does_not_know_them_backwards_are_refused_for_paths_back():
    with pytest.raises(ValueError, match=r"OneWay\.local_updates takes no `backwards`"):
        HeatBath(OneWay(0.5, 0.0)).reversed()
    assert Annealed(OneWay(0.5, 0.0), HeatBath, {"m2": 1.0}, 3, (0.0, 1.0)).tuned


def test_a_theory_without_actions_in_between_is_refused_at_once():
    with pytest.raises(ValueError, match=r"no local updates of a sum of actions, which Foreign.toward\(\)"):
        Annealed(Foreign(0.5, 0.0), HeatBath, {"m2": 1.0})


def test_a_ladder_is_no_kernel():
    """One update keeps the target only where the other rungs are in equilibrium with it."""
    with pytest.raises(ValueError, match="kernel: Tempering keeps no target in a single update"):
        Annealed(XY(1.0), lambda a: Tempering(a, HeatBath, values=(a.beta, 0.5)), {"beta": 0.0})
