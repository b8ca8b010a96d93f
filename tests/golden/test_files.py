"""Run folders and files of older code: whole, continued to the same bits, and with the same numbers."""

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.command import done
from golden.files import (
    GOLDEN,
    NAMES,
    analysed,
    contents,
    copied,
    described,
    ensemble_paths,
    extension,
    require_same_maker,
    rows,
    sha256_of,
    table_of,
    with_former_defaults,
)

from lattice_flows.flows import FLOWS
from lattice_flows.samplers import SAMPLERS

# Of the package's own names only the catalogues, which say what a card may ask for.
from lattice_flows.theories import THEORIES

UNFINISHED = {"array", "interrupted", "training"}
FINISHED = [name for name in NAMES if name not in UNFINISHED]


def test_there_is_golden_data_of_all_that_a_card_may_ask_for():
    """What is new gets a card, and `make.py` adds its run."""
    cards = [tomllib.loads(path.read_text()) for path in GOLDEN.glob("runs/*/card.toml")]
    of_own_files = {"openmm_system"}  # a golden card cannot name files of a place of its own
    assert {card["theory"]["name"] for card in cards} | of_own_files >= THEORIES.keys()
    assert {card["flow"]["name"] for card in cards if "flow" in card} >= FLOWS.keys()
    assert set(_named(cards, "sampler")) >= SAMPLERS.keys()


def _named(node: Any, key: str) -> list[str]:
    """The values of this key at any depth."""
    if isinstance(node, list):
        return [name for entry in node for name in _named(entry, key)]
    if not isinstance(node, dict):
        return []
    own = [node[key]] if key in node else []
    return own + [name for value in node.values() for name in _named(value, key)]


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_whole(name):
    folder = copied(name)
    for path in [*sorted((folder / "ensembles").glob("*.*")), *folder.glob("flow/*.h5"), *folder.glob("flow/*.pt")]:
        done("verify", path)
    done("info", path)


def test_what_was_stopped_goes_on_to_the_bits_of_a_run_that_was_not():
    table, folder = table_of("interrupted"), copied("interrupted")
    done("sample", folder)
    for name in table["ensembles"]:
        path = folder / "ensembles" / f"{name}.h5"
        done("verify", path)
        assert not path.with_suffix(".segments").exists()
        begun = _committed(GOLDEN / "runs" / "interrupted" / "ensembles" / name)
        _assert_begins_with(rows(path), begun, name)
    require_same_maker(table)
    for name, wanted in table["ensembles"].items():
        assert described(folder / "ensembles" / f"{name}.h5") == wanted, name


def _committed(stem: Path) -> dict[str, np.ndarray]:
    """What a joined file and its segments hold together."""
    parts = [stem.with_suffix(".h5"), *sorted(stem.with_suffix(".segments").glob("*.h5"))]
    held = [rows(path) for path in parts if path.exists()]
    names = held[-1].keys()
    return {name: np.concatenate([part[name] for part in held if name in part]) for name in names}


def test_an_array_goes_on_to_the_chains_of_the_whole():
    table, folder = table_of("array"), copied("array")
    done("sample", folder, "--task", "2/3")
    tasks = [rows(path) for path in ensemble_paths(folder)]
    whole = {name: np.concatenate([task[name] for task in tasks], axis=1) for name in tasks[0]}  # (config, chain)
    assert whole["series/action"].shape == (16, 5)
    assert "not finished" not in done("analyse", *ensemble_paths(folder))
    require_same_maker(table)
    with_former_defaults(folder / "card.toml")
    done("sample", folder / "card.toml", "--out", "whole")
    [path] = ensemble_paths(Path("whole"))
    for name, values in whole.items():
        np.testing.assert_array_equal(rows(path)[name], values, err_msg=name)


def test_a_training_goes_on_to_the_weights_of_one_that_was_not_stopped():
    table, folder = table_of("training"), copied("training")
    history = (folder / "flow" / "history.csv").read_text()
    done("train", folder)
    assert (folder / "flow" / "history.csv").read_text().startswith(history)
    require_same_maker(table)
    assert table["flow_sha256"] in done("info", folder / "flow" / "checkpoint.pt")


@pytest.mark.parametrize("name", FINISHED)
def test_a_finished_run_is_extended(name):
    table, folder = table_of(name), copied(name)
    before = {path.stem: rows(path) for path in ensemble_paths(folder)}
    done("sample", folder, *extension(folder))
    for path in ensemble_paths(folder):
        _assert_begins_with(rows(path), before[path.stem], path.stem)
    done("verify", path)
    require_same_maker(table)
    assert {path.stem: sha256_of(path) for path in ensemble_paths(folder)} == table["longer"]


def _assert_begins_with(longer: dict[str, np.ndarray], shorter: dict[str, np.ndarray], what: str) -> None:
    assert longer.keys() == shorter.keys(), what
    assert len(longer["series/action"]) > len(shorter["series/action"]), what
    for name, values in shorter.items():
        np.testing.assert_array_equal(longer[name][: len(values)], values, err_msg=f"{what}: {name}")


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("summaries/*.json")))
def test_the_analysis_finds_the_same_numbers(name):
    """Texts may change, keys may be added, and closed forms become known."""
    if name == "imported":
        paths = [Path("imported.h5")]
    else:
        paths = analysed(copied(name))
    done("analyse", *paths, "--json", "summary.json")
    stored = json.loads((GOLDEN / "summaries" / f"{name}.json").read_text())
    assert _different(stored, json.loads(Path("summary.json").read_text()), "") == []


def _different(stored: Any, found: Any, where: str) -> list[str]:
    """The places of what is stored where something else was found."""
    if isinstance(stored, dict):
        gone = [f"{where}/{key} is gone" for key in stored if key not in found]
        unknown = [key for key in stored if key in ("exact", "pull", "log_z_exact") and stored[key] is None]
        kept = [key for key in stored if key in found and key not in ("warnings", *unknown)]
        return gone + [text for key in kept for text in _different(stored[key], found[key], f"{where}/{key}")]
    if isinstance(stored, list) and len(stored) == len(found):
        return [text for k, pair in enumerate(zip(stored, found)) for text in _different(*pair, f"{where}/{k}")]
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (stored, found))
    # Errors of nearly equal weights are differences of numbers near 1, whose last digits depend on the processor.
    same = math.isclose(stored, found, rel_tol=1e-9, abs_tol=1e-12) if numbers else stored == found
    return [] if same else [f"{where}: {stored} was stored, {found} is found"]


def test_a_file_is_imported_again_to_the_same_bits():
    done("verify", "imported.h5")
    done("import", "links.npy", "--out", "again.h5", "--coupling", "beta=1.5")
    again = contents(Path("again.h5"))
    for name, values in contents(Path("imported.h5")).items():
        np.testing.assert_allclose(again[name], values, rtol=1e-12, atol=1e-12, err_msg=name)
    require_same_maker(table_of("u1"))
    assert sha256_of(Path("again.h5")) == sha256_of(Path("imported.h5"))


@pytest.mark.parametrize("ensemble", ["hmc", "nested_exchange"])
def test_a_file_makes_itself_again(ensemble):
    folder = copied("u1")
    require_same_maker(table_of("u1"))
    said = done("run", "--from", folder / "ensembles" / f"{ensemble}.h5", "--out", "again")
    assert "holds the same bits" in said.replace("\n", " ")
