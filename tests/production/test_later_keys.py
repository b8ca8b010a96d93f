"""Arguments, couplings and settings that came later: files of older code go on, and what they change is refused."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from rich.console import Console

from lattice_flows.card.build import load_flow
from lattice_flows.card.card import parse_card
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.grouping import grouped
from lattice_flows.flows import FLOWS, PlaquetteCouplingFlow
from lattice_flows.production.generate import generate
from lattice_flows.production.header import chains_of
from lattice_flows.production.job_array import Task
from lattice_flows.production.origin import Origin
from lattice_flows.production.remake import remake
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.production.training_data import training_data
from lattice_flows.samplers import HMC, SAMPLERS
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.theories import THEORIES, WilsonU1
from lattice_flows.training import TrainingSettings, train
from lattice_flows.training.checkpoint import CheckpointError, read_checkpoint
from lattice_flows.training.resumable import check_same as check_same_training
from lattice_flows.training.warm_start import inherit

QUIET = Console(quiet=True)

THEORY = '[theory]\nname = "older"\nshape = [4, 4]\nbeta = 2.0\n'
OWN = '{sampler = "own", n_md_steps = 3}'
TABLES = {
    "alone": 'sampler = "own"\nn_md_steps = 3',
    "mixed": f'sampler = "mixture"\nparts = [{{sampler = "heatbath"}}, {OWN}]',
    "ladder": 'sampler = "tempering"\nlast = 1.0\nn_replicas = 3\nreplica = {sampler = "own"}',
    "exchange": f'sampler = "replica_exchange"\nparts = [{OWN}, {{sampler = "mixture", parts = [{OWN}]}}]',
}


@dataclass(frozen=True)
class LaterHMC(HMC):
    halved: bool = False
    ways: tuple[int, ...] = (1, 2)
    added: ClassVar[Mapping[str, Any]] = {"halved": False, "ways": (1, 2)}


@dataclass(frozen=True)
class OtherwiseHMC(HMC):
    """Its default does something else than was done before there was the key."""

    doubled: bool = True
    added: ClassVar[Mapping[str, Any]] = {"doubled": False}

    def step(self, state, n_updates=1):
        return super().step(state, 2 * n_updates if self.doubled else n_updates)


@dataclass(frozen=True)
class LaterU1(WilsonU1):
    theta: float = 0.0
    added: ClassVar[Mapping[str, Any]] = {"theta": 0.0}


@dataclass(frozen=True)
class LaterSettings(TrainingSettings):
    noise: tuple[float, float] = (0.0, 0.0)
    added: ClassVar[Mapping[str, Any]] = {**TrainingSettings.added, "noise": (0.0, 0.0)}


@dataclass(frozen=True)
class LaterFlow(PlaquetteCouplingFlow):
    turned: tuple[int, ...] = (0, 0)
    added: ClassVar[Mapping[str, Any]] = {"turned": (0, 0)}


@pytest.fixture
def versions(monkeypatch):
    """Call with "older", "newer" or "otherwise": what the names `own` and `older` stand for."""

    def use(which):
        older = which != "newer"
        monkeypatch.setitem(SAMPLERS, "own", {"older": HMC, "newer": LaterHMC, "otherwise": OtherwiseHMC}[which])
        monkeypatch.setitem(THEORIES, "older", WilsonU1 if older else LaterU1)
        monkeypatch.setitem(FLOWS, "own", PlaquetteCouplingFlow if older else LaterFlow)

    return use


def text(name, n_configs=6, theory="", options=""):
    production = f"n_chains = 3\nn_configs = {n_configs}\nn_thermalisation = 4\n"
    own = 'sampler = "own"' + options.replace(", ", "\n" if name == "alone" else ", ")
    tables = TABLES[name].replace('sampler = "own"', own)
    return f'seed = 3\n{THEORY}{theory}[[ensemble]]\nname = "{name}"\n{production}{tables}\n'


def made(path, source, task=None):
    card = parse_card(source)
    (table,) = card.ensembles
    path.mkdir(exist_ok=True)
    folder = RunFolder(path)
    generate(folder, card, table.name, StopRequest(), QUIET, task)
    return folder.ensemble(table.name) if task is None else folder.task(table.name, task.index)


def contents(path):
    with Ensemble.open(path) as file:
        return {name: file.series(name) for name in file.series_names} | {"x": file.configs(0, file.n_configs)}


def assert_same(one, other):
    one, other = contents(one), contents(other)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize("name", TABLES)
def test_a_file_of_older_code_goes_on_to_the_same_bits(name, versions, tmp_path):
    versions("older")
    whole = made(tmp_path / "whole", text(name, 12))
    begun = made(tmp_path / "begun", text(name, 6))
    versions("newer")
    assert made(tmp_path / "begun", text(name, 12)) == begun
    assert_same(begun, whole)
    assert_same(made(tmp_path / "new", text(name, 12)), whole)  # new keys are not in the names of streams
    other = text(name, 18, options=", halved = true")
    with pytest.raises(InputError, match="halved: true on the card, false in the run"):
        made(tmp_path / "begun", other)
    assert not np.array_equal(contents(made(tmp_path / "other", other))["x"][:12], contents(whole)["x"])


@pytest.mark.parametrize("name", TABLES)
def test_a_default_that_changes_what_is_done_is_for_new_files(name, versions, tmp_path):
    """A card that does not name the key means the former value for a file of before, in one piece or several."""
    versions("older")
    whole = made(tmp_path / "whole", text(name, 12))
    begun = made(tmp_path / "begun", text(name, 6))
    part = made(tmp_path / "array", text(name, 12), Task(0, 2))
    versions("otherwise")
    assert_same(made(tmp_path / "begun", text(name, 12)), whole)
    other_part = made(tmp_path / "array", text(name, 12), Task(1, 2))
    chains = [contents(one)["action"] for one in (part, other_part)]
    np.testing.assert_array_equal(np.concatenate(chains, axis=1), contents(whole)["action"])
    assert remake(begun, tmp_path / "again", QUIET)
    new = contents(made(tmp_path / "new", text(name, 12)))
    assert not np.array_equal(new["x"], contents(whole)["x"])
    with pytest.raises(InputError, match="doubled: true on the card, false in the run"):
        made(tmp_path / "begun", text(name, 18, options=", doubled = true"))


def test_a_coupling_that_came_later(versions, tmp_path):
    versions("older")
    whole, begun = made(tmp_path / "whole", text("alone", 12)), made(tmp_path / "begun", text("alone", 6))
    versions("newer")
    made(tmp_path / "begun", text("alone", 12))
    assert_same(begun, whole)
    with Ensemble.open(begun) as file:
        assert Origin(file.attributes).theory["theta"] == 0.0
    with pytest.raises(InputError, match=r"theory\.theta: 0\.5 on the card, 0\.0 in the run"):
        made(tmp_path / "begun", text("alone", 18, "theta = 0.5\n"))


def test_parts_of_an_array_by_different_versions_are_one_ensemble(versions, tmp_path):
    versions("older")
    first = made(tmp_path, text("mixed", 120), Task(0, 2))
    versions("newer")
    second = made(tmp_path, text("mixed", 120), Task(1, 2))
    with Ensemble.open(first) as one, Ensemble.open(second) as other:
        (group,) = grouped([one, other])
        assert group.n_chains == 3
        assert chains_of(one.attributes) == chains_of(other.attributes)
    stored = training_data(str(first), parse_card(text("alone")).theory).identity
    versions("older")
    assert training_data(str(first), parse_card(text("alone")).theory).identity == stored


def test_files_of_what_is_not_installed_are_left_alone():
    attributes = {"theory": json.dumps({"name": "gone"}), "sampler": json.dumps({"name": "gone", "n": 1}), "seed": 1}
    assert Origin(attributes).theory == {"name": "gone"}
    assert Origin(attributes).sampler == {"name": "gone", "n": 1}
    assert Origin(attributes).sampler_as_given == {"n": 1}


def test_former_values_are_values():
    """Of arguments that there are, and that their class takes."""
    for constructor in [*SAMPLERS.values(), *THEORIES.values(), *FLOWS.values(), TrainingSettings]:
        arguments = constructor.__dataclass_fields__
        assert constructor.added.keys() <= arguments.keys()
        for key, value in constructor.added.items():
            default = arguments[key].default
            assert default is None or type(default) is type(value), "None is what is tuned"


def test_a_training_of_older_code_goes_on(versions, tmp_path):
    """Whatever its checkpoint lacks, in its settings and in the theory and the flow of its header."""
    versions("older")
    source = THEORY + '[flow]\nname = "own"\nn_layers = 8\nhidden = [4]\n[training]\nmax_steps = 4\n'
    card = parse_card(source)
    header = {"theory": card.theory.as_dict(), "flow": card.flow.as_dict()}

    def trained(folder, settings, header, card):
        folder.mkdir(exist_ok=True)
        train(card.flow.plan.build(), card.theory.action, settings, folder, seed=1, header=header)
        return read_checkpoint(folder / "checkpoint.pt")

    short, long = TrainingSettings(max_steps=4), TrainingSettings(max_steps=4, monitor_every=2)
    older = trained(tmp_path, short, header, card)
    assert older.step == 4
    versions("newer")
    card = parse_card(source)
    newer = {"theory": card.theory.as_dict(), "flow": card.flow.as_dict()}
    assert newer["theory"]["theta"] == 0.0
    assert newer["flow"]["turned"] == [0, 0]
    check = tmp_path / "checkpoint.pt"
    check_same_training(check, older, newer, LaterSettings(max_steps=4), 1)
    assert trained(tmp_path, LaterSettings(max_steps=4), newer, card).header == header  # and so its checksum
    cpu = torch.device("cpu")
    load_flow(card, check, cpu)
    inherit(card.flow.plan.build(), check, newer)
    turned = parse_card(source.replace("hidden", "turned = [0, 1]\nhidden"))
    with pytest.raises(InputError, match="was trained for flow"):
        load_flow(turned, check, cpu)
    with pytest.raises(CheckpointError, match="it is of another flow"):
        inherit(turned.flow.plan.build(), check, {**newer, "flow": turned.flow.as_dict()})
    noisy, larger = LaterSettings(max_steps=4, noise=(0.0, 1.0)), replace(long, batch_size=32)
    for wrong, told in (
        (noisy, r"noise: \[0.0, 1.0\] on the card"),
        (larger, "batch_size: 32 on the card, 64 in the run"),
    ):
        with pytest.raises(CheckpointError, match=f"training.{told}"):
            check_same_training(check, older, newer, wrong, 1)
    other = {**newer, "theory": {**newer["theory"], "theta": 1.0}}
    with pytest.raises(CheckpointError, match=r"theory\.theta: 1\.0 on the card, 0\.0 in the run"):
        check_same_training(check, older, other, short, 1)
    bare = SimpleNamespace(header={}, settings=json.loads(json.dumps(asdict(short))), seed=1)
    check_same_training(check, bare, {}, short, 1)
