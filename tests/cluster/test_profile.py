"""Cluster profiles: what is shipped is right, and what is wrong is said in one line."""

from pathlib import Path

import pytest

from lattice_flows.cluster.profile import parse_profile, read_profile, seconds
from lattice_flows.errors import InputError

pytestmark = pytest.mark.quick

SHIPPED = sorted((Path(__file__).parents[2] / "runs" / "cluster").glob("*.toml"))

WRONG = {
    "no scheduler": ("", "p.toml: top level: the key 'scheduler' is missing"),
    "unknown scheduler": (
        'scheduler = "sge"',
        "p.toml: top level: scheduler = 'sge': input should be 'slurm', 'pbs' or",
    ),
    "unknown key": ('scheduler = "slurm"\npartitions = "a"', "unknown key 'partitions'; did you mean 'partition'?"),
    "unknown key of a table": (
        'scheduler = "slurm"\n[sample]\nchain_per_task = 3',
        "p.toml: [sample]: unknown key 'chain_per_task'; did you mean 'chains_per_task'?",
    ),
    "a table as a value": ('scheduler = "slurm"\ntrain = 3', "p.toml: [train] must be a table, written [train]"),
    "a wrong type": (
        'scheduler = "slurm"\n[train]\nnodes = "2"',
        "p.toml: [train]: nodes = '2': input should be a valid",
    ),
    "no node": ('scheduler = "slurm"\n[train]\nnodes = 0', "p.toml: [train]: nodes = 0: input should be greater"),
    "minutes": ('scheduler = "slurm"\n[train]\ntime = "90"', "time = '90': must be a time, written \"HH:MM:SS\""),
    "no time": ('scheduler = "slurm"\n[train]\ntime = "00:00:00"', "must be a time, written"),
    "a bare time": ('scheduler = "slurm"\n[train]\ntime = 01:00:00', "p.toml: [train]: time = datetime.time(1, 0)"),
    "shorter than saving": (
        'scheduler = "slurm"\n[analyse]\ntime = "00:02:00"',
        "p.toml: [analyse]: time = '00:02:00': must be longer than save_seconds = 120",
    ),
    "two lines": (
        'scheduler = "slurm"\naccount = "a\\nb"',
        "p.toml: top level: account = 'a\\nb': must be one line of text",
    ),
    "nodes without Slurm": (
        'scheduler = "local"\n[train]\nnodes = 2',
        "p.toml: [train]: nodes = 2: more than one needs",
    ),
    "two clusters": (
        'scheduler = "slurm"\n[train]\ndirectives = ["--clusters=a"]\n[sample]\ndirectives = ["-M b"]',
        "p.toml: [sample]: directives: --clusters=b: [train] has a, and Slurm has no dependencies from one cluster",
    ),
    "any of several clusters": (
        'scheduler = "slurm"\ndirectives = ["--clusters a,b"]',
        "p.toml: [train]: directives: --clusters=a,b: name one, for jobs that depend on each other",
    ),
    "no TOML": ("scheduler = ", "p.toml: not valid TOML"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_one_line(name):
    text, message = WRONG[name]
    with pytest.raises(InputError) as said:
        parse_profile(text, "p.toml")
    assert message in str(said.value)
    assert str(said.value).startswith("p.toml: ")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_profile_is_valid(path):
    assert read_profile(path).scheduler == path.stem.partition("-")[0]


def test_all_are_shipped():
    assert [path.stem for path in SHIPPED] == ["local", "pbs", "slurm-cpu", "slurm-gpu"]


def test_a_short_profile_has_defaults():
    profile = parse_profile('scheduler = "slurm"')
    assert (profile.train.nodes, profile.train.processes_per_node, profile.sample.chains_per_task) == (1, 1, 4)
    assert (profile.max_requeues, profile.save_seconds, profile.environment) == (20, 120, ())


def test_a_missing_file_names_the_shipped_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^--cluster slurm-cpu: there is no such profile$"):
        read_profile(Path("slurm-cpu"))
    (tmp_path / "runs" / "cluster").mkdir(parents=True)
    (tmp_path / "runs" / "cluster" / "mine.toml").touch()
    with pytest.raises(InputError, match=r"there is no such profile; available: runs/cluster/mine\.toml$"):
        read_profile(Path("slurm-cpu"))


def test_a_folder_or_an_unreadable_file_is_no_profile(tmp_path):
    with pytest.raises(InputError, match=r"Is a directory; a cluster profile is a TOML file"):
        read_profile(tmp_path)
    (tmp_path / "p.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"is not UTF-8 text; a cluster profile is a TOML file"):
        read_profile(tmp_path / "p.toml")


@pytest.mark.parametrize(("text", "value"), [("00:00:01", 1), ("36:00:00", 129_600), ("2-03:04:05", 183_845)])
def test_times(text, value):
    assert seconds(text) == value
