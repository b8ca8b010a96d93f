"""What is asked of a sampler is asked of those inside it, at any depth, and nothing that they tell is lost."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from cards import claimed
from composites import ACTION, SHAPE, flow_of
from rich.console import Console

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.estimates.chain_diagnostics import short_build
from lattice_flows.kernels.random import make_streams, split_streams
from lattice_flows.production.generate import generate
from lattice_flows.production.job_array import Task, check_task
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.samplers import (
    SAMPLERS,
    FlowMetropolis,
    HeatBath,
    Mixture,
    Part,
    ReplicaExchange,
    Sampler,
    Umbrella,
)
from lattice_flows.samplers.info import info_of
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.theories import Action

QUIET = Console(quiet=True)


class Count(NamedTuple):
    x: np.ndarray
    n: np.ndarray


@dataclass(frozen=True)
class Counting(Sampler):
    """Tells in every field how many steps it has made."""

    action: Action

    def init(self, x, streams):
        return Count(x, np.zeros(len(x)))

    def moved(self, state, x):
        return state._replace(x=x)

    def step(self, state, n_updates=1):
        n = state.n + 1
        names = "accepted", "swap_acceptance", "improved_m", "round_trips", "rejection_run", "delta_h"
        return state._replace(n=n), info_of(dict.fromkeys(names, n))


def test_no_round_is_forgotten():
    """A mixture used to tell of its last round only."""
    sampler = Mixture(ACTION, (Part(Mixture(ACTION, (Part(Counting(ACTION)),))),))
    _, info = sampler.step(sampler.init(np.zeros((2, 2, 4, 4)), make_streams(1, "test", range(2))), 4)
    means, others = ("accepted", "swap_acceptance", "improved_m"), {"round_trips": 10, "rejection_run": 4, "delta_h": 4}
    wanted = {**dict.fromkeys(means, 2.5), **others}
    assert {name.removesuffix("_0_0"): value[0] for name, value in info._asdict().items() if "_0_0" in name} == wanted
    assert info.accepted[0] == info.accepted_0[0] == 2.5


def test_of_a_rung_with_another_target_only_its_updates_are_told():
    """An improved estimator at another coupling is none of the target's."""
    other = replace(ACTION, beta=1.0)
    sampler = ReplicaExchange(ACTION, (Part(Counting(ACTION)), Part(Counting(other)), Part(Counting(ACTION))))
    _, info = sampler.step(sampler.init(np.zeros((2, 2, 4, 4)), make_streams(1, "test", range(2))))
    told = [[name for name in info._fields if name.endswith(f"_{k}")] for k in range(3)]
    assert told[1] == ["accepted_1", "swap_acceptance_1", "round_trips_1", "rejection_run_1"]
    assert "improved_m_0" in told[0]
    assert "improved_m_2" in told[2]


def test_a_mixture_wastes_no_proposal(seed):
    """It used to throw a batch away in every round. The proposals are those of a chain of its own, all and in order."""
    alone = FlowMetropolis(ACTION, flow_of("flow_metropolis"), batch_size=10)
    mixture = Mixture(ACTION, (Part(alone, 2), Part(HeatBath(ACTION))))
    x, streams = ACTION.hot(make_streams(seed, "test", range(2)), (2, *SHAPE))
    state, told = mixture.init(x, streams), []
    for _ in range(6):
        state, info = mixture.step(state)
        told.append(info.proposal_log_w)
    _, plain = alone.step(alone.init(x, split_streams(streams, 0)), 12)
    np.testing.assert_array_equal(np.concatenate(told), plain.proposal_log_w)


def test_a_run_of_rejections_goes_on_where_another_part_moves_the_chains(seed):
    action = replace(ACTION, beta=60.0)  # no draw at 1 is ever accepted
    sampler = Mixture(action, (Part(FlowMetropolis(action, flow_of("flow_metropolis"), 10)), Part(HeatBath(action))))
    state = sampler.init(np.zeros((2, 2, *SHAPE)), make_streams(seed, "test", range(2)))
    state, _ = sampler.step(state)  # a start that no proposal would ever replace is left
    runs = []
    for _ in range(4):
        state, info = sampler.step(state, 3)
        runs.append(info.rejection_run_0[0])
    assert runs == [3, 6, 9, 12]


DEEP = """
[theory]
name = "u1"
shape = [4, 4]
beta = 1.2
[[ensemble]]
name = "e"
n_chains = {n_chains}
sampler = "mixture"
parts = [{{sampler = "replica_exchange", parts = [{{sampler = "hmc"}}, {part}]}}, {{sampler = "instanton"}}]
"""
WINDOWS = '{sampler = "umbrella", n_windows = 2}'


def test_sets_of_chains_stay_whole_at_any_depth():
    """The windows of chains that are dealt to jobs in parts would be others."""
    card = parse_card(DEEP.format(n_chains=4, part=WINDOWS))
    assert card.ensembles[0].chains_per_set == 2
    with pytest.raises(InputError, match="n_chains = 3: must be a multiple of 2"):
        parse_card(DEEP.format(n_chains=3, part=WINDOWS))
    with pytest.raises(InputError, match=r"2 sets of 2 chains, and each task needs whole sets"):
        check_task(RunFolder(Path("nowhere")), card.ensembles[0], Task(0, 4))


def test_sets_of_several_sizes_fit_together():
    three, two = (Umbrella(ACTION, n, q_max=1.0, n_md_steps=2) for n in (3, 2))
    inner = ReplicaExchange(ACTION, (Part(HeatBath(ACTION)), Part(three)))
    assert ReplicaExchange(ACTION, (Part(inner), Part(two), Part(HeatBath(ACTION)))).chains_per_set == 6
    assert [type(one).__name__ for one in inner.walk()] == ["ReplicaExchange", "HeatBath", "Umbrella"]


@dataclass(frozen=True)
class Unweighted(Umbrella):
    weighted = False


@dataclass(frozen=True)
class Halves(HeatBath):
    chains_per_set = 0.5


@dataclass(frozen=True)
class Secretive(Mixture):
    inner = ()


@pytest.mark.parametrize(
    ("of", "text", "told"),
    [
        (Halves, "{sampler = 'mine'}", "Halves.chains_per_set = 0.5: must be None or a whole number >= 1"),
        (Unweighted, "{sampler = 'mine', n_windows = 2}", "Unweighted has windows: it must have weighted = True"),
        (Secretive, "{sampler = 'mine', parts = [{sampler = 'hmc'}]}", "Secretive.inner must name the samplers"),
    ],
)
def test_classes_of_others_are_checked_at_any_depth(of, text, told, monkeypatch):
    monkeypatch.setitem(SAMPLERS, "mine", of)
    with pytest.raises(InputError, match=told):
        parse_card(DEEP.format(n_chains=4, part=text))


@dataclass(frozen=True)
class InPlace(HeatBath):
    """Changes the state that it is given."""

    def step(self, state, n_updates=1):
        new, info = super().step(state, n_updates)
        state.streams[:] = new.streams
        return new, info


def test_a_bias_two_levels_down_must_be_built_as_well():
    biased = {"sampler": "replica_exchange", "parts": [{"sampler": "hmc"}, {"sampler": "metadynamics"}]}
    settings = {"name": "mixture", "parts": [{"sampler": "tempering", "replica": biased}], "n_thermalisation": 100}
    assert "bias of metadynamics is hardly built" in short_build(SimpleNamespace(sampler=settings)).doubts[0]


def test_steps_of_others_are_checked_at_any_depth(monkeypatch, tmp_path):
    monkeypatch.setitem(SAMPLERS, "mine", InPlace)
    (tmp_path / "card.toml").write_text(DEEP.format(n_chains=4, part="{sampler = 'mine'}"))
    folder, card = claimed(tmp_path / "card.toml", tmp_path / "run")
    with pytest.raises(InputError, match=r"InPlace: step\(\) changes streams of the state") as refused:
        generate(folder, card, "e", StopRequest(), QUIET)
    assert "\n" not in str(refused.value)
