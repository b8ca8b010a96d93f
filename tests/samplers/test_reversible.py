"""What is not in detailed balance is caught, and says so; `test_contract` looks at the samplers that claim to be."""

from dataclasses import dataclass

import numpy as np
import pytest
from detailed_balance import asymmetry

from lattice_flows.kernels.random import uniforms
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
from lattice_flows.theories import Action, Ising, Phi4, WilsonU1


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
