"""What is not in detailed balance is caught, and says so; `test_contract` looks at the samplers that claim to be."""

from dataclasses import dataclass

import numpy as np
import pytest
from detailed_balance import asymmetry
from equilibrium import equilibrium

from lattice_flows.kernels.random import make_streams, uniforms
from lattice_flows.samplers import (
    HMC,
    HeatBath,
    Instanton,
    Metropolis,
    Mixture,
    Overrelaxation,
    Part,
    ReplicaExchange,
    Sampler,
    Tempering,
    Umbrella,
    WindingHMC,
)
from lattice_flows.samplers.local import AcceptInfo, ChainState
from lattice_flows.theories import XY, Action, Ising, Phi4, WilsonU1


@pytest.mark.parametrize(
    "sampler",
    [HeatBath(Phi4(0.1, 0.0)), Overrelaxation(Phi4(0.1, 0.0)), Metropolis(Ising(0.4))],
    ids=lambda sampler: f"{type(sampler).__name__} of {sampler.action}",
)
def test_an_ordered_sweep_is_caught(sampler, seed):
    """It keeps the target all the same, and says that it is not reversible."""
    assert asymmetry(sampler, (4, 4), 8000, 8, seed) > 4.5
    assert not sampler.reversible


@dataclass(frozen=True)
class OfOneVariable(Sampler):
    """Metropolis tests of changes of the variable k, many times over."""

    action: Action
    k: int
    reversible = True

    def init(self, x, streams):
        return ChainState(x.copy(), streams.copy())

    def step(self, state, n_updates=1):
        x, streams = state
        for _ in range(10 * n_updates):
            u, streams = uniforms(streams, 2)
            trial = x.copy()
            trial.reshape(len(x), -1)[:, self.k] += 2.0 * u[:, 0] - 1.0
            accept = np.log(u[:, 1]) < self.action.evaluate(x) - self.action.evaluate(trial)
            x = np.where(accept[:, None], trial, x)
        return ChainState(x, streams), AcceptInfo(accept.astype(float))


TWO = Phi4(0.2, 0.0)


@pytest.mark.parametrize(("order", "reversible"), [("0", True), ("01", False), ("010", True), ("0110", True)])
def test_an_order_that_is_another_from_behind_is_caught(order, reversible, seed):
    sampler = Mixture(TWO, tuple(Part(OfOneVariable(TWO, int(k))) for k in order))
    assert sampler.reversible == reversible
    assert (asymmetry(sampler, (2,), 4000, 4, seed) < 4.5) == reversible


def test_what_is_made_of_others_claims_no_more_than_it_can():
    action = WilsonU1(1.0)
    hmc, sweep, hop = HMC(action, 1.0, 4), HeatBath(action), Instanton(action)
    assert Mixture(action, (Part(hmc, 3),)).reversible
    assert not Mixture(action, (Part(hmc, 1), Part(hop), Part(hmc, 2))).reversible
    assert not Mixture(action, (Part(sweep),)).reversible
    assert not ReplicaExchange(action, (Part(hmc), Part(hmc))).reversible
    assert not Tempering(action, HMC, values=(1.0, 0.5)).reversible
    assert [Umbrella(action, 2, n_md_steps=2, exchange_every=n).reversible for n in (0, 1)] == [True, False]
    assert not WindingHMC(action, n_md_steps=2).reversible
    assert not Sampler.reversible, "the default claims nothing"


SWEEPS = [
    (HeatBath(Phi4(0.1, 0.0)), (4, 4)),
    (Overrelaxation(Phi4(0.1, 0.0)), (5, 4)),
    (HeatBath(XY(0.9)), (4, 3)),  # which is long on its way to equilibrium: fewer chains
    (Metropolis(Ising(0.4)), (4, 4)),
]


def n_chains_of(sampler):
    return 1000 if isinstance(sampler.action, XY) else 8000


@pytest.mark.parametrize(("sampler", "shape"), SWEEPS, ids=lambda value: str(value)[:60])
def test_the_updates_of_a_reversed_sampler_go_back(sampler, shape, seed):
    """In equilibrium f before and g after an update have the mean of f after and g before one of the reversed."""
    assert asymmetry(sampler, shape, n_chains_of(sampler), 8, seed, reversed_=sampler.reversed()) < 4.5
    assert sampler.reversed().reversed() == sampler


@pytest.mark.parametrize(("sampler", "shape"), SWEEPS, ids=lambda value: str(value)[:60])
def test_an_order_that_is_not_reversed_is_caught(sampler, shape, seed):
    assert asymmetry(sampler, shape, n_chains_of(sampler), 8, seed, reversed_=sampler) > 4.5


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (4, 5), (3, 3)])
def test_reflections_of_links_backwards_undo_them(shape, seed):
    """Where functions of few links would hardly see the order; all sweeps of links have the same."""
    action = WilsonU1(1.5)
    rounds = Mixture(action, (Part(Overrelaxation(action), 2), Part(HMC(action, n_md_steps=1, trajectory_length=1e-9))))
    begin = rounds.init(*equilibrium(action, shape, make_streams(seed, "test", range(3))))
    there, _ = rounds.step(begin, 3)
    back, _ = rounds.reversed().step(rounds.reversed().init(there.x, begin.parts[0].streams), 3)
    assert np.abs(np.exp(1j * there.x) - np.exp(1j * begin.x)).max() > 0.5
    np.testing.assert_allclose(np.exp(1j * back.x), np.exp(1j * begin.x), rtol=0, atol=1e-6)


def test_a_reversible_sampler_is_its_own_reverse_and_others_say_that_they_do_not_know():
    action = WilsonU1(1.0)
    hmc = HMC(action, n_md_steps=2)
    assert hmc.reversed() is hmc
    with pytest.raises(ValueError, match="WindingHMC does not know its updates backwards"):
        WindingHMC(action, n_md_steps=2).reversed()
