"""Weighted chains in sets, each set with a constant of its own in log_w: from a card to an estimate."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import pytest

from lattice_flows.errors import InputError
from lattice_flows.production.origin import Origin
from lattice_flows.samplers import SAMPLERS, Sampler
from lattice_flows.stages import run
from lattice_flows.statistics import derived_reweighted, jackknife_over_chains, normalised_in_sets
from lattice_flows.theories import Action, WilsonU1


class State(NamedTuple):
    x: np.ndarray
    streams: np.ndarray


class Info(NamedTuple):
    log_w: np.ndarray


@dataclass(frozen=True)
class Pairs(Sampler):
    """Direct draws at another beta in two chains a set, with a constant in log_w that only the set knows.

    The constant hangs on the first key, as that of a bias would hang on what the set has seen.
    """

    action: Action
    beta: float
    weighted: ClassVar[bool] = True

    @property
    def chains_per_set(self):
        return 2

    def init(self, x, streams):
        return State(x, streams.copy())

    def step(self, state, n_updates=1):
        other = WilsonU1(self.beta)
        x, streams = other.direct_sampler().draw(state.x.shape[1:], state.streams)
        constant = np.repeat(streams[::2, 0] % np.uint64(1000), 2) / 100.0  # 0 ... 10
        return State(x, streams), Info(other.evaluate(x) - self.action.evaluate(x) + constant)


CARD = """
seed = 5
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0

[[ensemble]]
name = "pairs"
sampler = "pairs"
beta = 0.9
n_configs = 500
n_chains = """


class Pooled(Pairs):
    """The same, as if all chains had the constant in common."""

    chains_per_set = None


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("sampler", [Pairs, Pooled])
def test_a_sampler_of_somebody_else_is_weighted_set_by_set(sampler, tmp_path, monkeypatch):
    monkeypatch.setitem(SAMPLERS, "pairs", sampler)
    card = tmp_path / "card.toml"
    card.write_text(CARD + "12")
    rows = run(card, tmp_path / "run")["ensembles"]["pairs"]["observables"]
    known = [row for row in rows.values() if row["pull"] is not None]
    assert len(known) > 4
    assert all(abs(row["pull"]) < 4.5 for row in known if row["trusted"])
    if sampler is Pairs:
        assert all(row["trusted"] for row in known)
        assert rows["plaquette"]["n_eff"] > 0.8 * 6000
    else:  # the largest constants decide, so that a set or two of six count
        assert rows["plaquette"]["n_eff"] < 0.5 * 6000


@pytest.mark.quick
def test_sets_are_whole(tmp_path, monkeypatch):
    monkeypatch.setitem(SAMPLERS, "pairs", Pairs)
    card = tmp_path / "card.toml"
    card.write_text(CARD + "3")
    with pytest.raises(InputError, match=r"n_chains = 3: must be a multiple of 2: the chains of 'pairs' come in sets"):
        run(card, tmp_path / "run")
    with pytest.raises(ValueError, match="3 chains are not whole sets of 2"):
        normalised_in_sets(np.zeros((4, 3)), 2)
    for too_few in (0, -1):
        with pytest.raises(ValueError, match=f"chains_per_set must be >= 1, got {too_few}"):
            normalised_in_sets(np.zeros((4, 3)), too_few)
    assert Origin({}).chains_per_set is None, "of a file of before: all chains share the constant"


@pytest.mark.quick
def test_constants_of_sets_are_of_no_consequence(rng):
    log_w, constants = rng.standard_normal((40, 6)), np.repeat([3.0, -700.0, 1e5], 2)
    found, shifted = normalised_in_sets(log_w, 2), normalised_in_sets(log_w + constants, 2)
    np.testing.assert_allclose(shifted, found, atol=1e-9)
    np.testing.assert_allclose(np.exp(found).reshape(40, 3, 2).mean(axis=(0, 2)), 1.0, rtol=1e-12)
    np.testing.assert_allclose(found - log_w, np.repeat((found - log_w)[:1, ::2], 2, axis=1).repeat(40, 0), atol=1e-12)


@pytest.mark.quick
def test_errors_of_sets(rng):
    """Pulls have unit variance where the constants differ by factors of e, and where the chains of a set differ too.

    Chain 1 of a set samples the right half of a Gaussian and chain 0 the left half, each with its weight: neither
    represents the target. Leaving out one chain would see a spread of means that is none of the average's.
    """
    pulls, without_sets = [], []
    for _ in range(400):
        half = np.abs(rng.standard_normal((50, 20))) * np.tile([-1.0, 1.0], 10)
        log_w = 0.3 * half + np.repeat(2.0 * rng.standard_normal(10), 2)  # the target: a Gaussian about 0.3
        weights = normalised_in_sets(log_w, 2)
        found = derived_reweighted(lambda mean: mean, weights, half, chains_per_set=2)
        spread = jackknife_over_chains(lambda mean: mean, weights, half, chains_per_set=2)
        pulls.append([(found.value - 0.3) / found.error, (found.value - 0.3) / spread])
        without_sets.append(jackknife_over_chains(lambda mean: mean, weights, half) / spread)
    gamma, jackknife = np.var(pulls, axis=0)
    # The variance of 400 pulls is known to 7 %, and a jackknife over ten sets makes it 9/7 as in Student's t.
    assert abs(gamma - 1.0) < 0.3
    assert abs(jackknife / (9 / 7) - 1.0) < 0.35
    assert abs(np.mean([pull for pull, _ in pulls])) < 4.5 / math.sqrt(400) + 0.1  # and a bias of the order of error^2
    assert np.median(without_sets) > 5.0
