"""Configurations for a training: where they come from, and which files are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cards import claimed
from rich.console import Console

from lattice_flows.card.build import field_spec
from lattice_flows.card.card import parse_card
from lattice_flows.ensembles import Block, Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.selection import EVERYTHING
from lattice_flows.monitor.info import describe
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.production.train import train_flow
from lattice_flows.production.training_data import training_data
from lattice_flows.stages import analyse_stage, run, train_stage
from lattice_flows.terminal.interrupt import Stopped, StopRequest
from lattice_flows.theories import ExactU1
from lattice_flows.training import CHECKPOINT_NAME, HISTORY_NAME, load_flow_weights, read_checkpoint, read_history

CARD = """
seed = 5
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0

[flow]
name = "plaquette_coupling"
n_layers = 4
hidden = [4]

[training]
max_steps = 12
batch_size = 8
monitor_every = 6
monitor_samples = 200
"""
THEORY = parse_card(CARD).theory


def _ensemble(path: Path, n: int = 40, n_chains: int = 4, beta: float = 1.0, **changes: Any) -> Path:
    """An ensemble of the direct sampler's configurations, but for what is asked to be wrong."""
    theory = parse_card(CARD, [f"theory.beta={beta}"]).theory
    data = training_data("direct", theory)
    x = data.learn.draw(n * n_chains, torch.Generator().manual_seed(1)).numpy().reshape(n, n_chains, 2, 4, 4)
    x = changes.pop("change", lambda x: x)(x)
    store = changes.pop("store_fields", True)
    header = {"theory": json.dumps(theory.as_dict()), "weighted": 0, **changes}
    with Ensemble.create(
        path, header=header, chains=range(n_chains), field=field_spec(theory), store_fields=store
    ) as writer:
        writer.append(Block({"plaquette": np.zeros((n, n_chains))}, {}, x if store else None, {}))
        writer.commit({"n": 1}, seconds=1.0)
        writer.finish()
    return path


def test_the_direct_sampler_gives_fresh_configurations_of_the_theory(generator: torch.Generator) -> None:
    """<cos P> of 20,000 within its error; another beta by 5 % is seen. Equal generators give equal ones."""
    data = training_data("direct", THEORY)
    links = data.learn.draw(20_000, generator)
    plaquettes = torch.cos(links[:, 0] + links[:, 1].roll(-1, 1) - links[:, 0].roll(-1, 2) - links[:, 1]).mean((1, 2))
    error = float(plaquettes.std()) / 20_000**0.5
    assert abs(float(plaquettes.mean()) - ExactU1(1.0, 16).plaquette) < 4.5 * error
    assert abs(float(plaquettes.mean()) - ExactU1(1.05, 16).plaquette) > 4.5 * error
    one, other = (data.learn.draw(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, other)


def test_the_end_of_an_ensemble_is_held_out(tmp_path: Path, generator: torch.Generator) -> None:
    """The last tenth of every chain is what it is judged by, and never learned from, nor what stands before it."""
    path = _ensemble(tmp_path / "hmc.h5")
    data = training_data(str(path), THEORY)
    with Ensemble.open(path) as ensemble:
        whole = ensemble.configs(0, 40)

    def seen(source: Any) -> set[bytes]:
        return {x.numpy().tobytes() for x in source.draw(4000, generator)}

    assert seen(data.learn) == {x.tobytes() for x in whole[:34].reshape(-1, 2, 4, 4)}
    assert seen(data.held_out) == {x.tobytes() for x in whole[36:].reshape(-1, 2, 4, 4)}
    assert len(data.held_out.draw(4000, generator)) == 4 * whole.shape[1]  # each of them once
    assert len(data.held_out.draw(5, generator)) <= 5


def test_of_a_long_ensemble_every_kth_configuration_is_taken(tmp_path: Path, generator: torch.Generator) -> None:
    """So that the memory is bounded; blocks need not be multiples of k."""
    path = _ensemble(tmp_path / "hmc.h5", n=100)
    data = training_data(str(path), THEORY, most_bytes=4 * 32 * 8 * 34, block_bytes=4 * 32 * 8 * 7)
    with Ensemble.open(path) as ensemble:
        whole = ensemble.configs(0, 100)
    kept = {x.tobytes() for x in np.delete(whole[::3], 29, 0).reshape(-1, 2, 4, 4)}  # one is the gap of a twentieth
    drawn = {x.numpy().tobytes() for source in (data.learn, data.held_out) for x in source.draw(4000, generator)}
    assert drawn == kept
    assert data.identity.startswith("every 3 of sha256 ")


BAD = {
    "another beta": ({"beta": 2.0}, r"was made for the theory .*2\.0.*, but the card has .*1\.0"),
    "no fields": ({"store_fields": False}, "stores no fields; generate it with store_fields = true"),
    "weighted": ({"weighted": 1}, "its configurations are weighted"),
    "few": ({"n": 10}, "holds 40 configurations; at least 100 are needed"),
    "not angles": ({"change": lambda x: 3.0 * x}, "does not hold angles: the largest is 9"),
    "not finite": ({"change": lambda x: np.where(x > 3.0, np.nan, x)}, "holds values that are not finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_data_for_this_theory_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    changes, message = BAD[name]
    path = _ensemble(tmp_path / "hmc.h5", **changes)
    with pytest.raises(InputError, match=message) as caught:
        training_data(str(path), THEORY)
    assert str(caught.value).startswith(f"training.data = {str(path)!r}: ")
    assert "\n" not in str(caught.value)


def test_what_is_no_ensemble_is_refused(tmp_path: Path) -> None:
    for source in ("dirct", str(tmp_path)):
        with pytest.raises(InputError, match="is neither 'direct' nor an ensemble file"):
            training_data(source, THEORY)
    with pytest.raises(InputError, match="no such ensemble file"):
        training_data(str(tmp_path / "none.h5"), THEORY)
    phi4 = parse_card('[theory]\nname = "phi4"\nshape = [4, 4]\nm2 = 1.0\nlam = 1.0\n').theory
    with pytest.raises(InputError, match="there is no direct sampler for this theory; give an ensemble file"):
        training_data("direct", phi4)


def test_a_card_trains_on_an_ensemble_and_notices_another_one(tmp_path: Path) -> None:
    path, card = _ensemble(tmp_path / "hmc.h5"), tmp_path / "run.toml"
    card.write_text(CARD + f'objective = "forward_kl"\ndata = "{path}"\n')
    console = Console(quiet=True)
    folder, read = claimed(card, tmp_path / "out", ())
    stop = StopRequest()
    stop.signal = "TERM"
    with pytest.raises(Stopped):
        train_flow(folder, read, stop, console)
    held = read_checkpoint(folder.flow / CHECKPOINT_NAME)
    assert held.reason == ""
    path.unlink()
    _ensemble(path, change=lambda x: 0.5 * x)
    with pytest.raises(InputError, match="holds other configurations than when the training began"):
        train_stage(card, tmp_path / "out", (), console)
    path.unlink()
    _ensemble(path)
    train_stage(card, tmp_path / "out", (), console)
    rows = read_history(RunFolder(tmp_path / "out").flow / HISTORY_NAME)
    assert [row.step for row in rows] == [6, 12]
    assert all(row.log_z_upper is not None for row in rows)


def test_a_card_starts_from_the_flow_of_another(tmp_path: Path) -> None:
    card, console = tmp_path / "run.toml", Console(quiet=True)
    card.write_text(CARD)
    parent = train_stage(card, tmp_path / "small", (), console).flow / CHECKPOINT_NAME
    changes = ["theory.shape=[8, 8]", "theory.beta=2.0", f"training.init_from={parent}"]
    child = train_stage(card, tmp_path / "large", changes, console).flow / CHECKPOINT_NAME
    assert describe(child)["parent sha256"] == read_checkpoint(child).parent == load_flow_weights(parent).sha256
    assert "parent sha256" not in describe(parent)
    with pytest.raises(ValueError, match="cannot start from it: it is of another flow"):
        train_stage(card, tmp_path / "other", [*changes, "flow.n_layers=8"], console)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data = 'hmc.h5'", "[training]: data = 'hmc.h5': no such ensemble file"),
        ("data = 'hmc'", "[training]: data = 'hmc': is neither 'direct' nor an ensemble file (NAME.h5)"),
        ("init_from = 'parent.pt'", "[training]: init_from = 'parent.pt': no such checkpoint"),
    ],
)
def test_a_file_that_is_not_there_is_told_before_anything_is_written(
    change: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    card = tmp_path / "run.toml"
    card.write_text(f"{CARD}{change}\n")
    with pytest.raises(InputError) as caught:
        train_stage(card, tmp_path / "out", (), Console(quiet=True))
    assert str(caught.value) == f"{card}: {message}"
    assert not (tmp_path / "out").exists()


def test_data_of_a_theory_without_a_direct_sampler_are_told_with_the_card() -> None:
    improved = CARD.replace('"u1"', '"u1_improved"').replace("beta", "c1 = 0.05\nbeta")
    with pytest.raises(InputError, match="data = 'direct': there is no direct sampler for this theory"):
        parse_card(improved + 'data = "direct"\n')
    parse_card(CARD + 'data = "direct"\n')


def test_a_run_that_is_trained_does_without_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be analysed, and run again, where the file is no longer at hand."""
    monkeypatch.setattr("lattice_flows.stages.write_report", lambda *_: None)
    path, console = _ensemble(tmp_path / "hmc.h5"), Console(quiet=True)
    card = tmp_path / "run.toml"
    card.write_text(f"{CARD}data = {str(path)!r}\n")
    folder = train_stage(card, tmp_path / "out", (), console)
    path.unlink()
    assert analyse_stage(folder.path, None, EVERYTHING, console)["flow"]["n_steps"] == 12
    for again in ((folder.path, None), (card, folder.path)):
        assert run(*again, console=console)["flow"]["n_steps"] == 12
    with pytest.raises(InputError, match="no such ensemble file"):
        run(card, tmp_path / "again", console=console)
