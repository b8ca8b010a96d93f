"""What every sampler must satisfy, over the registry."""

import json
from dataclasses import replace

import numba
import numpy as np
import pytest
import torch
from cases import SAMPLER_CASES
from detailed_balance import asymmetry
from equilibrium import equilibrium

from lattice_flows.kernels.random import make_streams
from lattice_flows.production.pilot_chains import merged
from lattice_flows.samplers import HMC, Direct
from lattice_flows.samplers.info import PROPOSALS, over_steps
from lattice_flows.samplers.state_arrays import flatten, restore
from lattice_flows.theories import DoubleWell, MuellerBrown, WilsonU1

POINTS = [
    pytest.param(case, shape, action, id=f"{case.name}-{shape}-{action}")
    for case in SAMPLER_CASES
    for shape, action in case.points
    if action.closed_forms(shape) is not None
]


@pytest.mark.parametrize(("case", "shape", "action"), POINTS)
def test_exact_expectation_values(case, shape, action, pulls, seed):
    sampler = case.build(action, shape)
    found = pulls(sampler, shape, case.n_chains, case.n_configs, case.n_updates, seed)
    assert max(map(abs, found.values())) < 4.5, found


@pytest.mark.parametrize(("off", "caught"), [(0.0, False), (0.05, True)])
def test_a_distribution_of_charges_five_per_cent_off_in_beta_is_caught(off, caught, pulls, seed):
    """And the same sample is right for its own beta."""
    found = pulls(
        Direct(WilsonU1(2.0)), (8, 8), 20_000, 2, 1, seed, action=WilsonU1(2.0 * (1.0 + off)), start=WilsonU1(2.0)
    )
    assert (abs(found["P(Q)"]) > 4.5) == caught, found


@pytest.mark.parametrize("action", [DoubleWell(), MuellerBrown()], ids=str)
@pytest.mark.parametrize(("off", "caught"), [(0.0, False), (0.05, True)])
def test_a_scale_of_a_potential_five_per_cent_off_is_caught(action, off, caught, pulls, seed):
    other = replace(action, scale=action.scale * (1.0 + off))
    found = pulls(HMC(action, 0.5, 10), (), 3000, 20, 8, seed, action=other, start=action)
    assert (max(map(abs, found.values())) > 4.5) == caught, found


@pytest.fixture(params=SAMPLER_CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture
def sampler(case):
    shape, action = case.points[0]
    return case.build(action, shape)


def begin(case, sampler, chains, seed):
    shape, action = case.points[0]
    return sampler.init(*equilibrium(action, shape, make_streams(seed, "test", chains)))


def assert_same(a, b):
    a, b = flatten(a), flatten(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_step_leaves_its_argument_alone(case, sampler, seed):
    state = begin(case, sampler, range(3), seed)
    before = {name: array.copy() for name, array in flatten(state).items()}
    later, _ = sampler.step(state, 3)
    for name, array in flatten(state).items():
        np.testing.assert_array_equal(array, before[name])
    again, _ = sampler.step(state, 3)
    assert_same(later, again)
    assert not np.array_equal(later.x, state.x)


def test_many_updates_at_once_are_as_one_by_one(case, sampler, seed):
    state = begin(case, sampler, range(4), seed)
    together, _ = sampler.step(state, 5)
    for _ in range(5):
        state, _ = sampler.step(state)
    if case.name == "instanton":  # the hops of one call are added up before the links are touched
        np.testing.assert_allclose(np.exp(1j * together.x), np.exp(1j * state.x), rtol=0, atol=1e-13)
        np.testing.assert_array_equal(together.streams, state.streams)
    else:
        assert_same(together, state)


def test_what_a_step_tells_is_what_its_updates_told(case, sampler, seed):
    """So that a part of another sampler tells in many steps what it would have told in one."""
    state = begin(case, sampler, range(3), seed)
    _, together = sampler.step(state, 4)
    infos = []
    for _ in range(4):
        state, info = sampler.step(state)
        infos.append(info)
    for name, values in together._asdict().items():
        if name == "swap_acceptance" and sampler.windows:
            continue  # where no swap is due, windows tell of the last one again
        each = [getattr(info, name) for info in infos]
        wanted = np.concatenate(each) if name == PROPOSALS else over_steps(name, each)
        np.testing.assert_allclose(values, wanted, rtol=1e-9, atol=1e-9, err_msg=name)


def test_updates_are_in_detailed_balance_where_the_sampler_says_so(case, sampler, seed):
    if not sampler.reversible:
        pytest.skip("it does not say so")
    shape, action = case.points[0]
    n_chains = 2000 if case.compiled and action.direct_sampler() else 300  # others are long on their way to equilibrium
    assert asymmetry(sampler, shape, n_chains, 4, seed) < 4.5


def test_a_restored_state_goes_on_with_the_same_bits(case, sampler, seed):
    state, _ = sampler.step(begin(case, sampler, range(2), seed), 3)
    stored = {name: array.copy() for name, array in flatten(state).items()}
    template = sampler.init(stored["x"], make_streams(99, "other", range(2)))
    n = 700 if hasattr(sampler, "batch_size") else 3  # beyond the waiting batch of 500 proposals
    assert_same(sampler.step(state, n)[0], sampler.step(restore(template, stored), n)[0])


def test_configurations_are_standard_representatives(case, sampler, seed):
    state, _ = sampler.step(begin(case, sampler, range(3), seed), 4)
    assert state.x.dtype == case.points[0][1].space.dtype
    wrapped = case.points[0][1].space.wrap(torch.from_numpy(state.x)).numpy()
    np.testing.assert_array_equal(wrapped, state.x)


def test_a_state_moved_to_where_it_is_goes_on_there(case, sampler, seed):
    state, _ = sampler.step(begin(case, sampler, range(3), seed), 2)
    np.testing.assert_array_equal(sampler.moved(state, state.x).x, state.x)
    other = begin(case, sampler, range(5, 8), seed).x
    np.testing.assert_array_equal(sampler.moved(state, other).x, other)


def test_the_target_is_the_action_where_averages_need_no_weights(case, sampler, seed):
    state = begin(case, sampler, range(3), seed)
    action = case.points[0][1]
    if not sampler.weighted:
        np.testing.assert_allclose(sampler.target(state, state.x), action.evaluate(state.x), rtol=1e-12)


def test_thermalising_keeps_the_kind_of_state(case, sampler, seed):
    state = begin(case, sampler, range(3), seed)
    for done in (0.0, 0.7):
        later = sampler.thermalise(state, done)
        one, other = flatten(state), flatten(later)
        assert one.keys() == other.keys()
        assert all(one[name].dtype == other[name].dtype for name in one)


def test_a_tuned_sampler_comes_back_from_its_findings(case, sampler, seed):
    """What tuning found survives JSON; a sampler that was told all has nothing to find."""
    assert sampler.tuned
    assert sampler.tune(begin(case, sampler, range(2), seed), 4) == sampler
    options = {"parts": [{}, {}]} if hasattr(sampler, "parts") else {}
    settings = json.loads(json.dumps(merged(options, sampler.findings())))
    assert sampler.with_findings(settings).findings() == sampler.findings()


def test_compiled_samplers_give_the_same_bits_for_any_threads_and_grouping(case, sampler, seed):
    if not case.compiled:
        pytest.skip("with a network the bits are fixed at equal threads, batch and grouping only")
    whole, _ = sampler.step(begin(case, sampler, range(6), seed), 4)
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    threaded, _ = sampler.step(begin(case, sampler, range(6), seed), 4)
    part, _ = sampler.step(begin(case, sampler, range(4, 6), seed), 4)
    assert_same(whole, threaded)
    np.testing.assert_array_equal(whole.x[4:], part.x)
