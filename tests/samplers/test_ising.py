"""All samplers of the Ising model against sums over all configurations, and improved estimators beside plain ones."""

import numpy as np
import pytest
from equilibrium import equilibrium
from ising_enumeration import EnumeratedIsing

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import SAMPLERS, Cluster, HeatBath, Metropolis, Mixture, Part, SwendsenWang
from lattice_flows.theories import Ising

KINDS = [Metropolis, HeatBath, Cluster, SwendsenWang]
POINTS = [((2, 2), 0.2), ((2, 3), 0.5), ((3, 5), 0.44), ((4, 4), 0.44068679350977147)]
IMPROVED = {Cluster: {"improved_susceptibility"}, SwendsenWang: {"improved_susceptibility", "improved_binder_cumulant"}}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("shape", "beta"), POINTS, ids=str)
def test_every_quantity(kind, shape, beta, pulls, seed):
    found = pulls(kind(Ising(beta)), shape, 200, 100, 5, seed, oracle=EnumeratedIsing(beta, shape))
    assert {"energy", "specific_heat", "abs_magnetisation", "binder_cumulant", *IMPROVED.get(kind, ())} <= set(found)
    assert max(map(abs, found.values())) < 4.5, found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_two_per_cent_of_beta_are_caught(kind, pulls, seed):
    wrong = Ising(1.02 * 0.4)
    found = pulls(kind(wrong), (4, 4), 400, 100, 5, seed, start=wrong, oracle=EnumeratedIsing(0.4, (4, 4)))
    assert abs(found["energy"]) > 4.5, found
    if kind in IMPROVED:
        assert abs(found["improved_susceptibility"]) > 4.5, found


@pytest.mark.parametrize(("kind", "gain"), [(Cluster, 1.0), (SwendsenWang, 1.3)])
@pytest.mark.parametrize(("shape", "beta"), [((12, 12), 0.4), ((9, 16), 0.44)], ids=str)
def test_improved_estimators_agree_with_the_plain_ones(kind, gain, shape, beta, seed):
    """By the difference on the same chains, with the jackknife's error; in the mean of five updates they are better."""
    action, n_chains = Ising(beta), 200
    sampler, volume = kind(action), np.prod(shape)
    state = sampler.init(*equilibrium(action, shape, make_streams(seed, "test", range(n_chains))))
    plain, improved = [], []
    for _ in range(100):
        state, info = sampler.step(state, 5)
        plain.append(volume * state.x.mean((1, 2)) ** 2)
        improved.append(info.improved_susceptibility)
    plain, improved = np.mean(plain, axis=0), np.mean(improved, axis=0)
    for factor, caught in ((1.0, False), (1.04, True)):
        difference = plain - factor * improved
        assert (abs(difference.mean()) > 4.5 * difference.std() / np.sqrt(n_chains)) == caught
    assert plain.std() > gain * improved.std()


def test_a_mixture_keeps_spins_of_one_byte(seed):
    action = Ising(0.4)
    mixture = Mixture(action, (Part(Metropolis(action)), Part(SwendsenWang(action), 2)))
    state = mixture.init(*action.hot(make_streams(seed, "test", range(3)), (4, 6)))
    for later in (mixture.step(state, 2)[0], mixture.moved(state, state.x), mixture.thermalise(state, 0.0)):
        assert later.x.dtype == np.int8


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"metropolis", "heatbath", "cluster", "swendsen_wang"}))
def test_cards_with_other_samplers_run_or_say_why_not(name, lattice_flows, card):
    options = {
        "fourier_hmc": "mass_squared = 1.0",
        "mixture": 'parts = [{sampler = "heatbath"}, {sampler = "cluster"}]',
        "replica_exchange": 'parts = [{sampler = "heatbath"}, {sampler = "cluster"}]',
        "tempering": 'last = 0.2\nn_replicas = 3\nreplica = {sampler = "metropolis"}',
        "umbrella": "n_windows = 4",
    }
    size = "n_configs = 8\nn_thermalisation = 4\n"
    text = '[theory]\nname = "ising"\nshape = [4, 4]\nbeta = 0.4\n[[ensemble]]\nname = "x"\n'
    status, out, errors = lattice_flows("sample", card(f'{text}sampler = "{name}"\n{size}{options.get(name, "")}'))
    if name in {"mixture", "replica_exchange", "tempering", "random_walk"}:
        assert status == 0, errors
        return
    assert status == 2
    assert errors.count("\n") == 1
    assert "Traceback" not in errors + out
