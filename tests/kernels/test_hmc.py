"""The one compiled HMC, with a theory of the tests' own: exactness, bodies found on disk, and what is missing named."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numba.core.errors import TypingError
from pendula import Pendula
from scipy.special import ive

from lattice_flows.kernels import hmc
from lattice_flows.kernels.by_couplings import compiled_for, implements
from lattice_flows.kernels.molecular_dynamics import action
from lattice_flows.kernels.random import make_streams, uniforms
from lattice_flows.statistics import gamma_method
from lattice_flows.theories.phi4.kernels.dynamics import LocalCouplings
from lattice_flows.theories.u1.kernels.biased_hmc import BiasedWilson
from lattice_flows.theories.u1.kernels.dynamics import Wilson
from lattice_flows.theories.u1_improved.kernels.dynamics import LoopCouplings
from lattice_flows.theories.xy.kernels.dynamics import Cosine
from lattice_flows.theories.xy.kernels.links import Images

LEAPFROG = (np.array([0.5, 0.5]), np.array([1.0]))
STRENGTH = Pendula(1.5)


def begin(n_chains, seed, shape=(3, 2)):
    streams = make_streams(seed, "test", range(n_chains))
    u, streams = uniforms(streams, int(np.prod(shape)))
    x = (np.pi * (2.0 * u - 1.0)).reshape(n_chains, *shape)
    return x, hmc.action(STRENGTH, x), streams


def test_action_force_and_trajectory_are_those_of_the_formulas(rng):
    x, p = rng.normal(size=(2, 4, 3, 2))
    np.testing.assert_allclose(hmc.action(STRENGTH, x), 1.5 * (1.0 - np.cos(x)).sum((1, 2)), rtol=1e-14)
    np.testing.assert_allclose(hmc.force(STRENGTH, x), -1.5 * np.sin(x), rtol=1e-14)
    steps = np.array([0.0, 0.1, 0.2, 0.3])
    end, end_p = hmc.integrate(STRENGTH, x, p, *LEAPFROG, steps, 5)
    h = steps[:, None, None]
    for _ in range(5):
        x = x + 0.5 * h * p
        p = p - 1.5 * h * np.sin(x)
        x = x + 0.5 * h * p
    np.testing.assert_allclose(end, x, rtol=0, atol=1e-13)
    np.testing.assert_allclose(end_p, p, rtol=0, atol=1e-13)


def pulls(strength, seed):
    """Of <cos x> and <exp(-dH)> at STRENGTH, of chains that have the given strength. Chains differ in step size."""
    x, s, streams = begin(50, seed)
    cosines, weights = [], []
    for k in range(400):
        x, s, streams, accepted, delta_h = hmc.trajectories(
            strength, x, s, streams, *LEAPFROG, np.linspace(0.3, 0.7, 50), 3, 2
        )
        if k >= 20:
            cosines.append(np.cos(x).mean((1, 2)))
            weights.append(np.exp(-delta_h))
    assert (np.abs(x) <= np.pi).all()
    assert 0.5 < accepted.mean() < 1.0
    found = gamma_method(np.array(cosines)), gamma_method(np.array(weights))
    return [(one.value - truth) / one.error for one, truth in zip(found, (ive(1, 1.5) / ive(0, 1.5), 1.0), strict=True)]


def test_chains_of_a_theory_that_says_no_more_than_it_must(seed):
    assert max(map(abs, pulls(STRENGTH, seed))) < 4.5
    assert abs(pulls(Pendula(1.03 * 1.5), seed)[0]) > 4.5  # a planted error


class NoKick(NamedTuple):
    strength: float


implements(action, NoKick)(lambda couplings, x, shape, work: couplings.strength * x.size)


def test_what_a_theory_does_not_say_is_named():
    x = np.zeros((1, 4))
    assert hmc.action(NoKick(2.0), x) == 8.0
    with pytest.raises(TypingError, match="function kick"):
        hmc.force(NoKick(2.0), x)


def test_a_bias_is_that_of_its_own_theory_alone(rng):
    x, nothing = rng.normal(size=(1, 2, 4, 4)), np.zeros(1)
    run = x, nothing, nothing, make_streams(1, "test", range(1)), *LEAPFROG, nothing, 1, 1
    bias = np.array([[0.0, 3.0]])  # V(q) = 3 (q + 1) / 2
    _, _, charge, _, _, delta_h = hmc.biased_trajectories(BiasedWilson(0.0, bias, 1.0), *run)
    assert delta_h == pytest.approx(1.5 * np.clip(charge, -1.0, 1.0))
    assert delta_h != 0.0
    _, _, charge, _, _, delta_h = hmc.biased_trajectories(Wilson(0.0), *run)
    assert charge == delta_h == 0.0


THEORIES = {
    "pendula": (STRENGTH, (3, 2)),
    "wilson": (Wilson(2.0), (2, 4, 4)),
    "loops": (LoopCouplings(2.0, 0.1), (2, 4, 4)),
    "biased": (BiasedWilson(2.0, np.zeros((2, 5)), 1.0), (2, 4, 4)),
    "phi4": (LocalCouplings(0.9, 1.3, 0.4), (4, 4)),
    "xy": (Cosine(0.9), (4, 4)),
    "villain": (Images(0.9, 0.0, 0.0), (4, 4)),
}
KERNELS = (hmc._actions, hmc._forces, hmc._ends, hmc._trajectories)


def use_all():
    """Every kernel of every theory, and how often each was found on disk and how often it was not."""
    counts = {}
    for name, (couplings, event) in THEORIES.items():
        x, s, steps = np.zeros((2, *event)), np.zeros(2), np.full(2, 0.1)
        hmc.action(couplings, x)
        hmc.force(couplings, x)
        hmc.integrate(couplings, x, x, *LEAPFROG, steps, 2)
        hmc.trajectories(couplings, x, s, make_streams(1, "test", range(2)), *LEAPFROG, steps, 2, 2)
        stats = [compiled_for(kernel, type(couplings)).stats for kernel in KERNELS]
        counts[name] = [[sum(one.cache_hits.values()), sum(one.cache_misses.values())] for one in stats]
    return counts


def test_a_second_process_compiles_nothing():
    use_all()
    code = "import json, test_hmc\nprint(json.dumps(test_hmc.use_all()))"
    assert in_a_process(code, Path(__file__).parent) == {name: [[1, 0]] * len(KERNELS) for name in THEORIES}


def in_a_process(code, *path, **variables):
    """What the code prints, as JSON."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, path), *sys.path])} | variables
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)
