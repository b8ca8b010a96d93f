"""Paths led by a moving spring: the free energy difference of two states, whatever the speed and the spring."""

from dataclasses import replace

import numpy as np
import pytest

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC
from lattice_flows.samplers.biased_chains import Bias
from lattice_flows.samplers.steered_paths import SteeredPaths
from lattice_flows.statistics import bennett
from lattice_flows.theories import DimerBath

pytestmark = pytest.mark.quick

LONE = DimerBath(0, 0.3)
EXACT = LONE.closed_forms(()).free_energy_difference
OPENING = SteeredPaths(HMC(LONE, 0.5, 8), 0.94, 2.06, 1.5, n_centres=40, spring=60.0)
CASES = {
    "slowly": OPENING,
    "in few steps": replace(OPENING, sampler=HMC(LONE, 0.3, 6), n_centres=16, n_updates=2),
    "so fast that some do not arrive": replace(OPENING, n_centres=12),
}


def works(paths, seed, n=3000):
    """Of paths from both states, from independent configurations."""
    x, _ = LONE.direct_sampler().draw((2, 2), make_streams(seed, "start", range(4 * n)))
    found = []
    for side, name in ((paths, "forth"), (paths.reversed(), "back")):
        inside = x[side.holds(x)][:n]
        found.append(side(inside, make_streams(seed, name, range(len(inside)))).work)
    return found


def pull(works):
    forth, back = works
    found = bennett(-forth, back)
    return (-found.value - EXACT) / found.error


@pytest.mark.parametrize("paths", CASES.values(), ids=CASES)
def test_free_energy_difference(paths, seed):
    forth, back = works(paths, seed)
    assert abs(pull((forth, back))) < 4.5
    assert (np.isinf(back).mean() > 0.01) == (paths.n_centres == 12), "or the test does not see paths that never arrive"


def test_a_small_difference_is_seen(seed):
    forth, back = works(OPENING, seed)
    assert abs(pull((forth + 0.2, back - 0.2))) > 4.5


def test_paths_that_forget_to_let_go_are_caught(seed, monkeypatch):
    """One way: the last change of the potential is that from the spring to none."""
    at, last = Bias.at, 2 * OPENING.n_centres

    def forgets(self, s):
        forgets.calls += 1
        return np.zeros_like(s) if forgets.calls == last else at(self, s)

    forgets.calls = 0
    monkeypatch.setattr(Bias, "at", forgets)
    assert abs(pull(works(OPENING, seed))) > 4.5


def test_ends_have_the_distribution_of_the_other_state(seed):
    """Weighted by exp(-W); without the weights those of a dimer that comes late."""
    n, length = 6000, LONE.collective_variable().value
    x, _ = LONE.direct_sampler().draw((2, 2), make_streams(seed, "start", range(4 * n)))
    start, goal = x[OPENING.holds(x)][:n], x[~OPENING.holds(x)]
    paths = replace(OPENING, n_centres=12)
    ends = paths(start, make_streams(seed, "forth", range(len(start))))
    arrived = np.isfinite(ends.work)
    d, w, expected = length(ends.x[arrived]), np.exp(-ends.work[arrived]), length(goal).mean()
    share = w / w.sum()
    error = np.sqrt(np.sum((share * (d - expected)) ** 2))
    assert abs(share @ d - expected) < 4.5 * error
    assert abs(d.mean() - expected) > 4.5 * d.std() / np.sqrt(d.size)
    assert error < 0.03


def test_starts_in_the_other_state_are_refused():
    x = LONE.hot(make_streams(1, "test", range(8)), (2, 2))[0]
    with pytest.raises(ValueError, match="of 8 paths would not begin in their state"):
        OPENING(x, make_streams(1, "paths", range(8)))


def test_a_spring_that_lets_paths_go_is_refused(seed):
    with pytest.raises(ValueError, match=r"spring = 4 is too weak: .*% of the paths leave their state"):
        works(replace(OPENING, spring=4.0, n_updates=10), seed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"divide": 2.5}, "divide must be between begin and end, got 2.5 with 0.94 and 2.06"),
        ({"n_centres": 1}, "n_centres must be an integer, 2 or more, got 1"),
        ({"spring": 0.0}, "spring must be a positive number, got 0.0"),
        ({"n_updates": 1.5}, "n_updates must be an integer, 1 or more, got 1.5"),
        ({"end": np.inf}, "begin, divide and end must be finite, got 0.94, 1.5 and inf"),
        ({"variable": "length"}, "length"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(OPENING, **change)
