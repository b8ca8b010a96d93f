"""What every sampler must satisfy, over the registry."""

import numba
import numpy as np
import pytest
from cases import SAMPLER_CASES

from lattice_flows.actions import WilsonU1
from lattice_flows.exact import sample_u1
from lattice_flows.kernels.random import make_streams
from lattice_flows.workflows.states import flatten, restore

POINTS = [pytest.param(case, *point, id=f"{case.name}-{point}") for case in SAMPLER_CASES for point in case.points]


@pytest.mark.parametrize(("case", "shape", "beta"), POINTS)
def test_exact_expectation_values(case, shape, beta, pulls, seed):
    sampler = case.build(WilsonU1(beta), shape)
    found = pulls(sampler, shape, beta, case.n_chains, case.n_configs, case.n_updates, seed)
    assert max(map(abs, found.values())) < 4.5, found


@pytest.fixture(params=SAMPLER_CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture
def sampler(case):
    return case.build(WilsonU1(1.0), (4, 4))


def begin(sampler, chains, seed):
    x, streams = sample_u1(1.0, 4, 4, make_streams(seed, "test", chains))
    return sampler.init(x, streams)


def assert_same(a, b):
    a, b = flatten(a), flatten(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_step_leaves_its_argument_alone(sampler, seed):
    state = begin(sampler, range(3), seed)
    before = {name: array.copy() for name, array in flatten(state).items()}
    later, _ = sampler.step(state, 3)
    for name, array in flatten(state).items():
        np.testing.assert_array_equal(array, before[name])
    again, _ = sampler.step(state, 3)
    assert_same(later, again)
    assert not np.array_equal(later.x, state.x)


def test_many_updates_at_once_are_as_one_by_one(sampler, seed):
    state = begin(sampler, range(4), seed)
    together, _ = sampler.step(state, 5)
    for _ in range(5):
        state, _ = sampler.step(state)
    assert_same(together, state)


def test_a_restored_state_goes_on_with_the_same_bits(sampler, seed):
    state, _ = sampler.step(begin(sampler, range(2), seed), 3)
    stored = {name: array.copy() for name, array in flatten(state).items()}
    template = sampler.init(stored["x"], make_streams(99, "other", range(2)))
    n = 700 if hasattr(sampler, "batch_size") else 3  # beyond the waiting batch of 500 proposals
    assert_same(sampler.step(state, n)[0], sampler.step(restore(template, stored), n)[0])


def test_configurations_are_angles_in_the_half_open_interval(sampler, seed):
    state, _ = sampler.step(begin(sampler, range(3), seed), 4)
    assert state.x.dtype == np.float64
    assert (state.x >= -np.pi).all()
    assert (state.x < np.pi).all()


def test_compiled_samplers_give_the_same_bits_for_any_threads_and_grouping(case, sampler, seed):
    if not case.compiled:
        pytest.skip("with a network the bits are fixed at equal threads, batch and grouping only")
    whole, _ = sampler.step(begin(sampler, range(6), seed), 4)
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    threaded, _ = sampler.step(begin(sampler, range(6), seed), 4)
    part, _ = sampler.step(begin(sampler, range(4, 6), seed), 4)
    assert_same(whole, threaded)
    np.testing.assert_array_equal(whole.x[4:], part.x)
