"""Every input of every command, where no file is: one line at once. And names that are commands of others."""

import os
from pathlib import Path

import pytest
from cards import CLASSICAL, WITH_FLOW
from odd_files import ODD, make_odd
from rich.console import Console

from lattice_flows.stages import sample_stage

COMMANDS = {
    "run": ("ODD.toml",),
    "train": ("ODD.toml",),
    "sample": ("ODD.toml",),
    "analyse": ("ODD.h5",),
    "analyse a run": ("ODD.toml",),
    "run --from": ("ODD.h5",),
    "profile": ("ODD.h5", "--series", "plaquette"),
    "measure": ("ODD.h5", "plaquette"),
    "export": ("ODD.h5", "--to", "npy"),
    "import": ("ODD.npy", "--out", "o.h5", "--coupling", "beta=2"),
    "info": ("ODD.h5",),
    "info a flow": ("ODD.pt",),
    "verify": ("ODD.h5",),
    "verify a flow": ("ODD.pt",),
    "watch": ("ODD", "--once"),
    "status": ("ODD",),
    "cancel": ("ODD",),
    "submit": ("ODD.toml", "--cluster", "none.toml", "--dry-run"),
    "submit to": ("card.toml", "--cluster", "ODD.toml", "--dry-run"),
    "sample from": ("card.toml", "--set", 'ensemble.hmc.start="ODD.h5"'),
    "train from": ("flow.toml", "--set", 'training.init_from="ODD.pt"'),
    "train on": ("flow.toml", "--set", 'training.data="ODD.h5"', "--set", 'training.objective="forward_kl"'),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("command", COMMANDS)
def test_one_line_at_once(command, kind, card, lattice_flows, tmp_path, time_limit):
    card(CLASSICAL), card(WITH_FLOW, "flow.toml")
    arguments = COMMANDS[command]
    odd = next(part.strip('"') for one in arguments for part in one.split("=") if "ODD" in part)
    make_odd(kind, tmp_path / odd)
    names = command.split()
    name = [names[0], *names[1:]] if names[-1].startswith("--") else names[:1]
    status, _, errors = lattice_flows(*name, *arguments)
    (line,) = errors.splitlines()
    assert (status, line[:15]) == (2, "lattice-flows: "), line
    assert "ODD" in line or "none.toml" in line or "/dev/zero" in line
    assert not Path(tmp_path / "o.h5").exists()


@pytest.mark.parametrize("command", ["run", "sample", "train", "submit"])
def test_a_cycle_of_links_as_the_folder_of_a_run(command, card, lattice_flows, tmp_path):
    make_odd("cycle of links", tmp_path / "ODD")
    more = ["--cluster", "none.toml"] if command == "submit" else []
    status, _, errors = lattice_flows(command, card(WITH_FLOW), "--out", "ODD", *more)
    (line,) = errors.splitlines()
    assert status == 2
    assert "ODD" in line or "none.toml" in line


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    folder = tmp_path_factory.mktemp("some")
    (folder / "card.toml").write_text(CLASSICAL)
    changes = ["ensemble.hmc.n_configs=40", "ensemble.hmc.n_md_steps=4"]
    return sample_stage(folder / "card.toml", folder / "run", changes, ["hmc"], Console(quiet=True)).ensemble("hmc")


def test_the_first_ensemble_of_a_pattern_is_not_overwritten(ensemble, lattice_flows, tmp_path):
    names = ["a.h5", "b.h5"]
    for name in names:
        (tmp_path / name).write_bytes(ensemble.read_bytes())
    for arguments in (["--json", *names], ["a.h5", "--json", "a.h5"], ["a.h5", "--json", "new.h5"]):
        status, _, errors = lattice_flows("analyse", *arguments)
        assert status == 2
        assert "is the name of an ensemble" in errors
    assert all((tmp_path / name).read_bytes() == ensemble.read_bytes() for name in names)
    assert sorted(os.listdir(tmp_path)) == names


def test_no_work_is_done_for_a_target_that_is_somebody_elses(ensemble, lattice_flows, tmp_path, monkeypatch):
    monkeypatch.setattr("lattice_flows.stages.analyse_files", lambda *_: pytest.fail("it has worked"))
    (tmp_path / "report").mkdir()
    for path in ("notes.json", "report/index.html"):
        (tmp_path / path).write_text("mine")
    for arguments in (["--json", "notes.json"], ["--report", "report"]):
        status, _, errors = lattice_flows("analyse", ensemble, *arguments)
        assert status == 2
        assert "not overwritten" in errors
    monkeypatch.setenv("LATTICE_FLOWS_OUTCOME", str(tmp_path / "notes.json"))
    assert lattice_flows("analyse", ensemble)[0] == 2
    assert (tmp_path / "notes.json").read_text() == "mine"


def test_an_empty_place_for_the_outcome_is_none(ensemble, lattice_flows, monkeypatch):
    monkeypatch.setenv("LATTICE_FLOWS_OUTCOME", "")
    status, _, errors = lattice_flows("info", ensemble)
    assert (status, errors) == (0, "")


def test_home_is_known_in_arguments_and_on_the_card(ensemble, card, lattice_flows, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "e.h5").write_bytes(ensemble.read_bytes())
    assert lattice_flows("analyse", "~/e.h5", "--json=~/s.json")[0] == 0
    assert (tmp_path / "home" / "s.json").exists()
    start = ["--set", 'ensemble.hmc.start="~/e.h5"', "--set", "ensemble.hmc.n_configs=20"]
    status, _, errors = lattice_flows("sample", card(CLASSICAL), "--out=~/run", *start, "--ensemble", "hmc")
    assert (status, errors) == (0, "")
    assert (tmp_path / "home" / "run" / "ensembles" / "hmc.h5").exists()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("folder", "shown"),
    [("$x_{$[bold]\x1b[31m", "?x_???bold???31m/hmc"), (os.fsdecode(b"b\xff"), "b?/hmc")],
)
def test_names_of_folders_are_no_commands(folder, shown, card, ensemble, lattice_flows, tmp_path):
    """Ensembles of one name are told apart by their folders, in tables, figures and on the page."""
    card(CLASSICAL)
    changes = ["ensemble.hmc.n_configs=40", "ensemble.hmc.n_md_steps=5"]
    other = sample_stage(tmp_path / "card.toml", tmp_path / "run", changes, ["hmc"], Console(quiet=True))
    place = tmp_path / folder / "ensembles" / "hmc.h5"
    place.parent.mkdir(parents=True)
    place.write_bytes(ensemble.read_bytes())
    status, out, errors = lattice_flows("analyse", place, other.ensemble("hmc"), "--report", place.parent / "report")
    assert (status, errors) == (0, "")
    assert f" {shown} " in out
    assert "\x1b" not in out
    assert (place.parent / "report" / "index.html").exists()


@pytest.mark.parametrize("what", ["locked", "too many"])
def test_a_file_that_is_in_use_and_a_limit_are_not_called_broken(what, ensemble, lattice_flows, monkeypatch):
    import errno

    number = {"locked": errno.EAGAIN, "too many": errno.EMFILE}[what]

    def refuse(*_, **__):
        raise OSError(number, f"Unable to synchronously open file ({os.strerror(number)})")

    monkeypatch.setattr("h5py.h5f.open", refuse)
    status, _, errors = lattice_flows("analyse", ensemble)
    told = {"locked": "is in use: another program has locked it", "too many": "too many open files; raise the limit"}
    assert told[what] in errors
    assert status == {"locked": 2, "too many": 1}[what]


def test_a_card_with_a_byte_order_mark(card, lattice_flows):
    path = card("")
    path.write_bytes(b"\xef\xbb\xbf" + CLASSICAL.encode())
    changes = ["--set", "ensemble.hmc.n_configs=20", "--set", "ensemble.hmc.n_md_steps=4"]
    for _ in range(2):  # the second call finds the card that the first one kept
        status, _, errors = lattice_flows("sample", path, "--out", "run", "--ensemble", "hmc", *changes)
        assert (status, errors) == (0, "")
