"""The description of summary.json is that of what is written: every key is there, none is unknown, each of its type."""

import json
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from cards import SCALAR, WITH_FLOW, with_ensembles

from lattice_flows.estimates import summary_types
from lattice_flows.estimates.analysis import analyse_files
from lattice_flows.estimates.selection import Selection
from lattice_flows.estimates.summary import write_summary
from lattice_flows.estimates.summary_types import ObservableRow, Summary
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import run

MORE = """
[[ensemble]]
name = "direct"
sampler = "direct"
n_configs = 400
[[ensemble]]
name = "tempering"
sampler = "tempering"
last = 0.5
n_replicas = 2
replica = {sampler = "heatbath"}
n_configs = 30
"""
INTEGRATED = """
seed = 1
[theory]
name = "u1"
shape = [4, 4]
beta = 0.2
[flow]
name = "gradient_flow"
coefficients = "leading"
n_steps = 8
[[ensemble]]
name = "direct"
sampler = "direct"
n_configs = 100
"""
SMALL = ["training.max_steps=5", "training.monitor_every=5", "ensemble.flow_hmc.n_md_steps=2",
         "ensemble.flow_hmc.n_configs=4"]  # fmt: skip


def faults(value: Any, kind: Any, where: str) -> list[str]:
    """Where the value is not of the type, and how; read from JSON, where a float may be written as an integer."""
    if is_typeddict(kind):
        if not isinstance(value, dict):
            return [f"{where}: is no object"]
        hints = get_type_hints(kind)
        missing = [f"{where}.{key}: missing" for key in kind.__required_keys__ - value.keys()]
        unknown = [f"{where}.{key}: unknown" for key in value.keys() - hints.keys()]
        known = value.keys() & hints.keys()
        return missing + unknown + [f for key in known for f in faults(value[key], hints[key], f"{where}.{key}")]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return []
        (kind,) = (argument for argument in arguments if argument is not NoneType)
        return faults(value, kind, where)
    if origin is dict and isinstance(value, dict):
        return [f for key, entry in value.items() for f in faults(entry, arguments[1], f"{where}[{key}]")]
    if origin is list and isinstance(value, list):
        return [f for at, entry in enumerate(value) for f in faults(entry, arguments[0], f"{where}[{at}]")]
    if kind is Any or (origin is Literal and value in arguments):
        return []
    if origin is None and type(value) in {float: (float, int)}.get(kind, (kind,)):
        return []
    return [f"{where}: {value!r} is no {kind}"]


def keys_of(value: Any) -> set[str]:
    """All keys, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """The summary of runs with flows, one of them in steps, of files, and of files at other couplings, as they stand in
    their files."""
    folder = tmp_path_factory.mktemp("summaries")
    (folder / "flow.toml").write_text(WITH_FLOW + MORE)
    (folder / "integrated.toml").write_text(INTEGRATED)
    (folder / "scalar.toml").write_text(with_ensembles(SCALAR, {"hmc": 'sampler = "hmc"'}, 100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr("lattice_flows.stages.write_report", lambda *_: None)  # figures take their time
        run(folder / "flow.toml", folder / "flow", SMALL)
        run(folder / "integrated.toml", folder / "integrated")
        run(folder / "scalar.toml", folder / "scalar")
    scalar = RunFolder(folder / "scalar").ensemble("hmc")
    for name, selection in {"files": Selection(None), "reweighted": Selection(couplings={"m2": -0.9})}.items():
        with analyse_files([scalar], selection) as analysis:
            write_summary(analysis.summary, folder / name / "summary.json")
    paths = [*folder.glob("*/report/summary.json"), *folder.glob("*/summary.json")]
    assert len(paths) == 5
    return [json.loads(path.read_text()) for path in paths]


def test_every_key_is_there_and_of_its_type(written: list[dict]):
    assert [fault for summary in written for fault in faults(summary, Summary, "summary")] == []


def test_every_key_of_the_description_is_written_somewhere(written: list[dict]):
    """So that none of what is said of it goes unchecked."""
    described = set().union(*(get_type_hints(kind) for kind in vars(summary_types).values() if is_typeddict(kind)))
    assert described - set().union(*map(keys_of, written)) == set()


def test_what_is_planted_is_found():
    row = {"value": 1, "error": 0.5, "tau_int": None, "tau_int_error": 0.1, "window": 3, "n_eff": 7.0, "r_hat": None,
           "exact": None, "pull": None, "trusted": True}  # fmt: skip
    assert faults(row, ObservableRow, "row") == []
    planted = {"trusted": 1, "window": 3.0, "value": "1", "n_eff": True, "error": {}}
    for key, value in planted.items():
        assert len(faults({**row, key: value}, ObservableRow, "row")) == 1, key
    assert faults({**row, "more": 1}, ObservableRow, "row") == ["row.more: unknown"]
    del row["window"]
    assert faults(row, ObservableRow, "row") == ["row.window: missing"]
