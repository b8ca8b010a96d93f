"""HMC with winding steps: exactness, the charge that moves, sizes that fit, tuning."""

import numpy as np
import pytest

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC
from lattice_flows.samplers.winding_hmc import WindingHMC
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import Phi4, WilsonU1, sample_u1
from lattice_flows.theories.u1.kernels import fields as u1

pytestmark = pytest.mark.quick

POINTS = [((4, 4), 1.0), ((6, 10), 1.5), ((3, 5), 2.5), ((2, 2), 1.0), ((8, 8), 4.0), ((16, 16), 7.0)]


def begin(sampler, shape, n_chains, seed):
    x, streams = sample_u1(sampler.action.beta, *shape, make_streams(seed, "test", range(n_chains)))
    return sampler.init(x, streams)


@pytest.mark.parametrize(("shape", "beta"), POINTS, ids=str)
def test_exact_expectation_values(shape, beta, pulls, seed):
    found = pulls(WindingHMC(WilsonU1(beta), 1.0, 12), shape, 16, 500, 1, seed)
    assert max(map(abs, found.values())) < 4.5, found


class WrongPrice(WindingHMC):
    """Winding steps that are tested with a coupling three per cent off."""

    def _wind(self, state):
        off = WindingHMC(WilsonU1(1.03 * self.action.beta), size=self.size, n_windings=self.n_windings)
        state, accepted = off._wind(state)
        return state._replace(action=self.action.evaluate(state.x)), accepted


def test_a_wrong_price_of_a_winding_step_is_caught(pulls, seed):
    size = {"shape": (4, 4), "n_chains": 400, "n_configs": 300, "n_updates": 1, "seed": seed}
    right = pulls(WindingHMC(WilsonU1(2.0), 0.2, 1, n_windings=30), **size)
    wrong = pulls(WrongPrice(WilsonU1(2.0), 0.2, 1, n_windings=30), **size)
    assert max(map(abs, right.values())) < 4.5, right
    assert max(map(abs, wrong.values())) > 4.5, wrong


def charges(sampler, shape, n, seed):
    state, found = begin(sampler, shape, 8, seed), []
    for _ in range(n):
        state, _ = sampler.step(state)
        found.append(np.rint(u1.topological_charge(state.x)))
    return np.array(found)


def test_the_charge_moves_where_that_of_hmc_is_frozen(seed):
    frozen = charges(HMC(WilsonU1(10.0), 1.0, 14), (16, 16), 300, seed)
    moving = charges(WindingHMC(WilsonU1(10.0), 1.0, 14), (16, 16), 300, seed)
    changes, frozen_changes = ((np.diff(q, axis=0) != 0).sum() for q in (moving, frozen))
    assert changes > 100 * max(1, frozen_changes)
    assert gamma_method(moving**2).tau_int < 2.0


def test_the_action_in_the_state_is_that_of_the_links(seed):
    sampler = WindingHMC(WilsonU1(3.0), 1.0, 8)
    state, info = sampler.step(begin(sampler, (6, 5), 4, seed), 3)
    np.testing.assert_array_equal(state.action, sampler.action.evaluate(state.x))
    assert (info.winding_accepted > 0).any()
    assert (info.winding_accepted < 1).all()


def test_the_default_size_is_accepted_most(seed):
    def rate(size):
        sampler = WindingHMC(WilsonU1(6.0), 1.0, 12, size=size, n_windings=20)
        return sampler.step(begin(sampler, (16, 16), 100, seed), 5)[1].winding_accepted.mean()

    default, others = rate(None), [rate(size) for size in (4, 8, 12, 15)]
    assert rate(14) == default
    assert default > max(others)


@pytest.mark.parametrize(("shape", "size"), [((4, 6), 4), ((2, 2), 2), ((8, 3), 3)])
def test_sizes_that_do_not_fit_are_refused_when_chains_begin(shape, size, seed):
    sampler = WindingHMC(WilsonU1(1.0), 1.0, 4, size=size)
    with pytest.raises(ValueError, match=f"size must be at most {size - 1} on a lattice of"):
        begin(sampler, shape, 1, seed)
    begin(WindingHMC(WilsonU1(1.0), 1.0, 4, size=size - 1), shape, 1, seed)


@pytest.mark.parametrize("arguments", [{"size": 0}, {"n_windings": 0}, {"n_md_steps": 0}, {"trajectory_length": -1.0}])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        WindingHMC(WilsonU1(1.0), **arguments)
    with pytest.raises(ValueError, match="not of Phi4"):
        WindingHMC(Phi4(1.0, 1.0))


def test_tuning_is_that_of_hmc(seed):
    sampler = WindingHMC(WilsonU1(2.0))
    state = begin(sampler, (8, 8), 4, seed)
    tuned = sampler.tune(state, 64)
    assert tuned.n_md_steps == HMC(WilsonU1(2.0)).tune(state, 64).n_md_steps
    assert not sampler.tuned
    assert sampler.with_findings(tuned.findings()) == tuned
    with pytest.raises(ValueError, match="n_md_steps is not set"):
        sampler.step(state)
