"""Trajectories of random length: what is drawn, and the errors that a fixed length gets wrong."""

import numpy as np
import pytest

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC, SAMPLERS, FourierHMC, Instanton, Mixture
from lattice_flows.samplers.composite import Part
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import ExactU1, Phi4, Plaquette, WilsonLoop, WilsonU1


class InTorch(WilsonU1):
    def kernel_couplings(self, event):
        return None


@pytest.mark.quick
@pytest.mark.parametrize("theory", [WilsonU1, InTorch])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.8])
def test_lengths_are_uniform_about_the_mean(theory, jitter, seed):
    """Free links go as far as momentum times length: <d^2> = T^2 (1 + jitter^2 / 3), chain by chain."""
    n, length = 4000, 0.1
    sampler = HMC(theory(0.0), length, 2, jitter=jitter)
    state = sampler.init(np.zeros((n, 2, 4, 4)), make_streams(seed, "test", range(n)))
    end, info = sampler.step(state)
    assert np.all(info.accepted == 1.0)
    of_chains = np.square(end.x / length).mean(axis=(1, 2, 3))  # (n,)
    error = of_chains.std() / np.sqrt(n)
    assert abs(of_chains.mean() - (1.0 + jitter**2 / 3.0)) < 4.5 * error
    assert (abs(of_chains.mean() - 1.0) > 4.5 * error) == (jitter > 0.2)
    spread = 2.0 / 32.0  # of the mean square of 32 normal deviates
    lengths = of_chains.var() / spread  # 1 without a jitter
    assert (lengths > 1.5) == (jitter > 0.2)


COVERAGE = {"plaquette": (Plaquette(), 1), "W22": (WilsonLoop(2, 2), 4), "W33": (WilsonLoop(3, 3), 9)}


@pytest.mark.parametrize("jitter", [0.5, 0.0])
def test_errors_of_an_everyday_point_hold(jitter, seed):
    """8x8, beta = 9: chi^2/n of the pulls of 24 ensembles. A fixed length of 1 meets half a period of the lowest modes.

    chi^2/n has a standard deviation of 0.29. Over eight seeds it was 0.6 to 1.8 with the jitter; without, 3.6 to 6.3
    for the plaquette, 9 to 26 for the loops.
    """
    action, groups, chains, n = WilsonU1(9.0), 24, 4, 2000
    sampler = Mixture(action, (Part(HMC(action, 1.0, 12, jitter=jitter), 1), Part(Instanton(action), 3)))
    streams = make_streams(seed, "test", range(groups * chains))
    state = sampler.init(*action.direct_sampler().draw((2, 8, 8), streams))
    series = {name: [] for name in COVERAGE}
    for _ in range(n):
        state, _ = sampler.step(state)
        for name, (observable, _) in COVERAGE.items():
            series[name].append(observable(state.x))
    exact = ExactU1(9.0, 64)
    for name, (_, area) in COVERAGE.items():
        values = np.array(series[name]).reshape(n, groups, chains)
        found = [gamma_method(list(values[:, group].T)) for group in range(groups)]
        pulls = np.array([(one.value - exact.wilson_loop(area)) / one.error for one in found])
        if jitter > 0:
            assert 0.3 < np.mean(pulls**2) < 2.2, name
        elif area > 1:
            assert np.mean(pulls**2) > 4.0, name


@pytest.mark.quick
def test_one_key_for_all_trajectories():
    """The same name and default everywhere, and zero in files of before; Fourier acceleration always had it."""
    of_trajectories = {name: one for name, one in SAMPLERS.items() if "trajectory_length" in one.__dataclass_fields__}
    assert len(of_trajectories) == 6
    for name, one in of_trajectories.items():
        assert one.__dataclass_fields__["jitter"].default == 0.5, name
        assert one.added["jitter"] == (0.5 if one is FourierHMC else 0.0), name


@pytest.mark.quick
@pytest.mark.parametrize("jitter", [-0.1, 1.0, float("nan")])
def test_impossible_jitters_are_refused(jitter):
    for make in (lambda: HMC(WilsonU1(1.0), jitter=jitter), lambda: FourierHMC(Phi4(1.0, 0.0), 1.0, jitter=jitter)):
        with pytest.raises(ValueError, match="jitter must be at least 0 and below 1"):
            make()
