"""The mean length of trajectories: the cheapest one is found, and only where nothing is given."""

import numpy as np
import pytest
from scipy.signal import lfilter

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC, SAMPLERS
from lattice_flows.samplers.lengths import tuned_length
from lattice_flows.theories import AlanineDipeptide, Combined, Phi4, WilsonU1


def pilots(tau_int, rng, frozen=False):
    """Pilot chains of two observables: tau_int(length) and 1; with a third that differs from chain to chain alone."""

    def pilot(length):
        tau = tau_int(length)
        rho = (2 * tau - 1) / (2 * tau + 1)
        slow = lfilter([1.0], [1.0, -rho], rng.standard_normal((400, 8)), axis=0)
        series = [slow, lfilter([1.0], [1.0, -1 / 3], rng.standard_normal((400, 8)), axis=0)]
        return [*series, np.arange(8.0) * np.ones((400, 1))] if frozen else series, 10.0 * length

    return pilot


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("tau_int", "best"),
    [
        (lambda length: 16.0 / length**2, 4.0),  # diffusion until the faster observable counts
        (lambda length: 2.0, 0.125),
        (lambda length: 1.0 + 8.0 * abs(np.log2(length)), 1.0),
        (lambda length: 2.0 + 50.0 * (length < 0.5), 0.5),
    ],
)
def test_the_cheapest_length_is_found(tau_int, best, frozen, rng):
    found = [tuned_length(pilots(tau_int, rng, frozen)) for _ in range(20)]
    assert np.median(found) == best


def test_a_length_at_which_nothing_moves_is_not_cheap(rng):
    """Of chains that drift all the time tau_int comes out small: they are shorter than it."""

    def pilot(length):
        steps = rng.standard_normal((200, 8))
        return [np.cumsum(steps, axis=0) if length < 1 else steps], length

    assert {tuned_length(pilot) for _ in range(10)} == {1.0}


def test_where_nothing_moves_at_all_the_length_is_the_first():
    assert tuned_length(lambda length: ([np.ones((100, 4))], length)) == 1.0
    assert tuned_length(lambda length: ([np.ones((100, 4))], length), 0.3) == 0.3


def test_lengths_are_those_of_the_theory(rng):
    """The same costs in other units of length: the same multiple of the first is the cheapest one."""
    for best, tau_int in ((0.4, lambda length: 16.0 / length**2), (0.0125, lambda length: 2.0)):
        pilot = pilots(lambda length, tau_int=tau_int: tau_int(length / 0.1), rng)
        found = [tuned_length(lambda length, pilot=pilot: (pilot(length)[0], 1e3 * length), 0.1) for _ in range(20)]
        assert np.median(found) == pytest.approx(best)


def test_a_molecule_is_tuned_from_its_own_scale(caplog):
    """From a length of 1 nm no trajectory within the limit of steps is accepted."""
    action = AlanineDipeptide()
    assert (action.first_length, action.scaled(0.5).first_length) == (0.1, 0.1)
    assert HMC(action, n_md_steps=10).trajectory_length == 0.1
    assert HMC(Combined(((1.0, action),)), n_md_steps=10).trajectory_length == 0.1
    found, _ = tuned(action, action.event_shape(()), 16, n_chains=2)
    assert found.step_size < 0.02
    assert not caplog.records  # which would say that the target acceptance is out of reach


def tuned(action, event, n_updates=200, n_chains=8):
    streams = make_streams(4, "lengths", range(n_chains))
    x, streams = action.hot(streams, event)
    sampler = HMC(action)
    trials = []
    found = sampler.tune(sampler.init(x, streams), n_updates, trials.append)
    return found, trials


def test_stiff_targets_get_short_trajectories_and_slow_modes_long_ones():
    stiff, trials = tuned(WilsonU1(60.0), (2, 8, 8))
    assert stiff.trajectory_length <= 0.5
    assert len(trials) < 2000
    slow, _ = tuned(Phi4(m2=0.06, lam=0.0), (8, 8))
    assert slow.trajectory_length >= 2.0
    assert 1 <= stiff.n_md_steps <= slow.n_md_steps


@pytest.mark.parametrize("name", ["hmc", "winding_hmc", "metadynamics", "umbrella"])
def test_what_is_given_is_kept(name):
    more = {"n_windows": 2, "q_max": 2.0} if name == "umbrella" else {}
    make = SAMPLERS[name]
    assert make(WilsonU1(1.0), **more).trajectory_length is None
    assert make(WilsonU1(1.0), n_md_steps=3, **more).trajectory_length == 1.0
    given = make(WilsonU1(1.0), trajectory_length=0.7, **more)
    x = np.zeros((2, 2, 4, 4))
    found = given.tune(given.init(x, make_streams(1, "given", range(2))), 16)
    assert found.trajectory_length == 0.7
    assert found.n_md_steps is not None
