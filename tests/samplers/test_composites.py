"""Every sampler as a part of every sampler that is made of others, from a card: it runs, or is refused in one line."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from cards import assert_same_ensemble, claimed
from composites import (
    ACTION,
    N_CHAINS,
    N_CONFIGS,
    N_OF_PART,
    N_UPDATES,
    OF_PATHS,
    REFUSED,
    SHAPE,
    accepted,
    alone,
    built,
    flow_of,
    hot,
    text_of,
)
from rich.console import Console

from lattice_flows.card.card import parse_card
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.kernels.random import make_streams
from lattice_flows.production.generate import generate
from lattice_flows.production.produce import Pace
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.production.train import train_flow
from lattice_flows.samplers import (
    FlowMetropolis,
    Mixture,
    Part,
    RandomWalk,
)
from lattice_flows.samplers.info import PROPOSALS, over_steps, tells_of_updates
from lattice_flows.samplers.state_arrays import flatten, restore
from lattice_flows.statistics import log_partition
from lattice_flows.terminal.interrupt import Stopped, StopRequest

QUIET = Console(quiet=True)


@pytest.mark.parametrize(("whole", "part"), REFUSED)
def test_what_cannot_be_a_part_is_refused_in_one_line(whole, part):
    with pytest.raises(InputError, match=REFUSED[whole, part]) as told:
        parse_card(text_of(whole, part))
    assert "\n" not in str(told.value)
    assert "[[ensemble]] e" in str(told.value)


@pytest.fixture(scope="module")
def flow(tmp_path_factory) -> RunFolder:
    """The run in which the flow was trained, which is a matter of no time."""
    place = tmp_path_factory.mktemp("flow")
    (place / "card.toml").write_text(text_of("mixture", "flow_metropolis"))
    folder, card = claimed(place / "card.toml", place / "run")
    train_flow(folder, card, StopRequest(), QUIET)
    return folder


class After(StopRequest):
    """A request to stop at this look."""

    def __init__(self, look: int) -> None:
        super().__init__()
        self.left = look

    def __call__(self) -> bool:
        self.left -= 1
        if self.left <= 0:
            self.signal = "TEST"
        return super().__call__()


def generated(text, place, flow, *looks):
    """The ensemble of this card, stopped at these looks at the request to stop, and taken up again."""
    place.mkdir()
    (place / "card.toml").write_text(text)
    folder, card = claimed(place / "card.toml", place / "run")
    shutil.copytree(flow.flow, folder.flow, dirs_exist_ok=True)
    for look in looks:
        with pytest.raises(Stopped):
            generate(folder, card, "e", After(look), QUIET, pace=Pace(block_seconds=0.0))
    generate(folder, card, "e", StopRequest(), QUIET)
    return folder.ensemble("e")


@accepted
def test_a_part_goes_on_to_the_same_bits_from_a_stored_state(whole, part, tmp_path, seed):
    sampler = built(whole, part)
    state, _ = sampler.step(sampler.thermalise(hot(sampler, 2, seed), 0.5), 2)
    field = sampler.action.field(SHAPE)
    with Ensemble.create(
        tmp_path / "e.h5", header={}, chains=range(2), field=field, store_fields=False, compression="none"
    ) as writer:
        writer.commit(flatten(state, "sampler/"), seconds=0.0)
    with Ensemble.resume(tmp_path / "e.h5") as writer:
        arrays = writer.state()
    template = sampler.init(arrays["sampler/x"], make_streams(1, "other", range(2)))
    one, other = (
        sampler.step(state, 7),
        sampler.step(restore(template, arrays, "sampler/"), 7),
    )  # beyond waiting proposals
    for name, values in flatten(one).items():
        np.testing.assert_array_equal(values, flatten(other)[name], err_msg=name)


@pytest.mark.parametrize("whole", ["mixture", "tempering"])
def test_a_state_of_before_has_no_proposals_that_wait(whole, seed):
    sampler = built(whole, "flow_metropolis")
    state, _ = sampler.step(hot(sampler, 2, seed), 2)
    stored = {name: values for name, values in flatten(state).items() if "/waiting/" not in name}
    assert len(stored) < len(flatten(state))
    restored = restore(hot(sampler, 2, seed), stored)
    np.testing.assert_array_equal(restored.x, state.x)
    _, info = sampler.step(restored, 2)
    assert np.isfinite(info.proposal_log_w).all()


IN_A_RUN = [
    ("mixture", "flow_metropolis"),
    ("mixture", "tempering"),
    ("tempering", "flow_metropolis"),
    ("tempering", "replica_exchange"),
    ("replica_exchange, second", "flow_metropolis"),
    ("replica_exchange, second", "umbrella"),
]


@pytest.mark.parametrize(("whole", "part"), IN_A_RUN)
def test_a_run_that_was_stopped_ends_in_the_same_file(whole, part, tmp_path, flow):
    text = text_of(whole, part)
    path = generated(text, tmp_path / "whole", flow)
    assert_same_ensemble(path, generated(text, tmp_path / "stopped", flow, 2, 4))
    with Ensemble.open(path) as ensemble:
        assert ensemble.verify()
        if part == "flow_metropolis":
            n_of_part = 1 if whole == "tempering" else N_OF_PART
            assert ensemble.proposals("log_w").shape == (N_CONFIGS * N_UPDATES * n_of_part, N_CHAINS)
        else:
            assert ensemble.proposal_names == []


@accepted
def test_a_part_tells_what_it_tells_alone(whole, part, seed):
    """In series with its number; a rung that has not the target of the whole tells of its updates only."""
    sampler = built(whole, part)
    _, info = sampler.step(hot(sampler, 3, seed), 2)
    assert all(values.shape == (3,) for name, values in info._asdict().items() if name != PROPOSALS)
    own = alone(part)
    told = [name for name in own.step(hot(own, 3, seed), 2)[1]._fields if name != PROPOSALS]
    k = 1 if whole.endswith("second") else 0
    kept = [name for name in told if not own.weighted or tells_of_updates(name)]
    if whole in OF_PATHS:  # of whose paths only the weights are told
        kept = []
    found = [name for name in info._fields if name.endswith(f"_{k}") and name != f"accepted_{1 - k}"]
    assert found == [f"{name}_{k}" for name in kept]


@accepted
def test_what_a_step_tells_is_what_its_rounds_told(whole, part, seed):
    sampler = built(whole, part)
    state = hot(sampler, 3, seed)
    _, together = sampler.step(state, 3)
    infos = []
    for _ in range(3):
        state, info = sampler.step(state)
        infos.append(info)
    for name, values in together._asdict().items():
        each = [getattr(info, name) for info in infos]
        wanted = np.concatenate(each) if name == PROPOSALS else over_steps(name, each)
        np.testing.assert_allclose(values, wanted, rtol=1e-12, atol=1e-12, err_msg=name)


STATISTICS = [
    ("mixture", "flow_metropolis"),
    ("mixture", "replica_exchange"),
    ("tempering", "flow_metropolis"),
    ("replica_exchange, first", "tempering"),
    ("replica_exchange, second", "umbrella"),
    ("replica_exchange, second", "flow_metropolis"),
]


@pytest.mark.parametrize(("whole", "part"), STATISTICS)
def test_exact_expectation_values(whole, part, pulls, seed):
    found = pulls(built(whole, part), SHAPE, 100, 40, 1, seed)
    assert max(map(abs, found.values())) < 4.5, found


def test_a_part_with_a_coupling_five_per_cent_off_is_caught(pulls, seed):
    part = FlowMetropolis(replace(ACTION, beta=1.05 * ACTION.beta), flow_of("flow_metropolis"), 4000)
    sampler = Mixture(ACTION, (Part(part), Part(RandomWalk(ACTION, 0.1))))
    found = pulls(sampler, SHAPE, 1000, 40, 1, seed)
    assert max(map(abs, found.values())) > 4.5, found


@pytest.mark.parametrize("whole", ["mixture", "tempering", "replica_exchange, first", "replica_exchange, second"])
def test_the_proposals_of_a_part_give_log_z(whole, seed):
    """Those of the target: on another rung of a ladder they have other weights."""
    sampler = built(whole, "flow_metropolis")
    _, info = sampler.step(hot(sampler, 100, seed), 50)
    log_z = log_partition(info.proposal_log_w.ravel())
    for off, caught in ((0.0, False), (0.01, True)):
        difference = log_z.value - replace(ACTION, beta=1.2 * (1 + off)).closed_forms(SHAPE).log_z
        assert (abs(difference) > 4.5 * log_z.error) == caught, (difference, log_z)
