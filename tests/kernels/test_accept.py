"""The compiled accept loop against the plain definition of independence Metropolis."""

import numpy as np
import pytest

from lattice_flows.kernels.accept import independence_metropolis

pytestmark = pytest.mark.quick


def plain(log_w, proposed, uniforms, runs):
    holds, accepted, rejections = (np.zeros(proposed.shape, kind) for kind in (int, bool, int))
    for b in range(proposed.shape[1]):
        current, run, held = log_w[b], runs[b], -1
        for t in range(proposed.shape[0]):
            accept = np.log(uniforms[b, t]) < proposed[t, b] - current
            current, run, held = (proposed[t, b], 0, t) if accept else (current, run + 1, held)
            holds[t, b], accepted[t, b], rejections[t, b] = held, accept, run
    return holds, accepted, rejections


def test_against_the_plain_loop(rng):
    log_w, proposed, u = rng.normal(size=3), 2 * rng.normal(size=(500, 3)), rng.random((3, 500))
    runs = np.array([0, 7, 1])
    for result, expected in zip(independence_metropolis(log_w, proposed, u, runs), plain(log_w, proposed, u, runs)):
        np.testing.assert_array_equal(result, expected)


def test_impossible_proposals_are_rejected_and_impossible_states_left():
    u = np.full((1, 4), 0.5)
    proposed = np.array([[-np.inf], [np.nan], [np.inf], [0.0]])
    holds, accepted, runs = independence_metropolis(np.array([-np.inf]), proposed, u, np.array([2]))
    np.testing.assert_array_equal(holds[:, 0], [-1, -1, -1, 3])
    np.testing.assert_array_equal(accepted[:, 0], [False, False, False, True])
    np.testing.assert_array_equal(runs[:, 0], [3, 4, 5, 0])


def test_distribution_on_three_states(seed):
    """Proposals uniform on {0, 1, 2} with weights 1 : 2 : 4 must give 1/7, 2/7, 4/7."""
    rng = np.random.default_rng(seed)
    n, weights = 200_000, np.array([1.0, 2.0, 4.0])
    states = rng.integers(0, 3, (n, 1))
    holds, _, _ = independence_metropolis(
        np.log(weights[:1]), np.log(weights)[states], rng.random((1, n)), np.zeros(1, int)
    )
    held = np.where(holds[:, 0] < 0, 0, states[np.maximum(holds[:, 0], 0), 0])
    frequencies = np.bincount(held, minlength=3) / n
    errors = np.sqrt(frequencies * (1 - frequencies) / n * 3)  # 2 tau_int of this chain is below 3
    assert (abs(frequencies - weights / 7) < 4.5 * errors).all()
    assert (abs(frequencies - weights**1.05 / (weights**1.05).sum()) > 4.5 * errors).any()  # a planted error
