"""Headers that contradict the data, or are of a newer version: told in one line by whatever reads the file."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cards import CLASSICAL, claimed
from rich.console import Console

from lattice_flows.card.card import TheoryTable
from lattice_flows.ensembles import Ensemble
from lattice_flows.ensembles.checksum import content_sha256, header_sha256
from lattice_flows.errors import InputError
from lattice_flows.estimates.analysis import analyse_files
from lattice_flows.monitor.info import describe, verify
from lattice_flows.production.generate import generate
from lattice_flows.production.start import check_start_file, start_configurations
from lattice_flows.production.training_data import training_data
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.theories.u1.action import WilsonU1

THEORY = TheoryTable("u1", WilsonU1(1.5), {"beta": 1.5}, (4, 6), "periodic")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "card.toml").write_text(CLASSICAL)
    run, card = claimed(folder / "card.toml", folder / "run", ["ensemble.hmc.n_configs=60"])
    generate(run, card, "hmc", StopRequest(), Console(quiet=True))
    return run.ensemble("hmc")


@pytest.fixture
def held(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(finished, tmp_path / "hmc.h5"))


def seal(file: h5py.File) -> None:
    """Checksums of what the file holds now."""
    for name in ("header_sha256", "sha256"):
        del file.attrs[name]
    file.attrs["header_sha256"] = header_sha256(file.attrs)
    file.attrs["sha256"] = content_sha256(file)


def edited(path: Path, key: str, **entries: Any) -> Path:
    """The file with other entries of a table of its header, resealed."""
    with h5py.File(path, "r+") as file:
        file.attrs[key] = json.dumps({**json.loads(file.attrs[key]), **entries})
        seal(file)
    return path


def replaced(path: Path, key: str, value: Any) -> Path:
    with h5py.File(path, "r+") as file:
        file.attrs[key] = value
        seal(file)
    return path


def assert_refused(path: Path, message: str) -> None:
    for read in (
        describe,
        verify,
        lambda path: analyse_files([path]),
        lambda path: check_start_file(THEORY, str(path)),
    ):
        with pytest.raises(InputError, match=message) as refused:
            read(path)
        assert str(refused.value).startswith((str(path), "start ="))
        assert "\n" not in str(refused.value)


def test_a_sound_header_has_no_remarks(held: Path) -> None:
    assert len(verify(held)) == 1
    assert "unknown here" not in describe(held)
    with analyse_files([held]) as analysis:
        assert not any("does not know" in text for text in analysis.summary["ensembles"]["hmc"]["warnings"])


def test_another_lattice_than_that_of_the_fields_is_refused(held: Path) -> None:
    assert_refused(edited(held, "theory", shape=[8, 8]), r"the shape \[8, 8\], but its configurations are on \[4, 6\]")


def test_another_theory_than_that_of_the_fields_is_refused(held: Path) -> None:
    assert_refused(
        edited(held, "theory", name="xy"), r"theta \[2, 4, 6\], but those of the theory 'xy' are theta \[4, 6\]"
    )


def test_couplings_of_a_newer_version_are_refused(held: Path) -> None:
    assert_refused(edited(held, "theory", gamma=1.0), "of no u1 of this version.*gamma")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("theory", "[]", "'theory' is not a table in JSON"),
        ("sampler", "{}", "'sampler' has no name"),
        ("observables", "{}", "'observables' is not an array in JSON"),
        ("observables", "[3]", "'observables' holds 3"),
        ("observables", '[{"name": "plaquette", "every": 0}]', "every must be a whole number"),
        ("overrides", "x", "'overrides' is not an array in JSON"),
        ("seed", "one", "'seed' is 'one': it must be a whole number"),
        ("threads", np.int64(0), "'threads' is 0: it must be a whole number of at least 1"),
    ],
)
def test_an_attribute_of_another_type_is_named(held: Path, key: str, value: Any, message: str) -> None:
    assert_refused(replaced(held, key, value), message)


def test_a_theory_of_a_newer_version_is_named_and_its_series_analysed(held: Path) -> None:
    edited(held, "theory", name="su2")
    told = "made with theory 'su2', which this version does not know; what can be analysed are the stored series"
    assert verify(held)[1:] == [f"{held}: {told}"]
    assert describe(held)["unknown here"] == told
    with analyse_files([held]) as analysis:
        found = analysis.summary["ensembles"]["hmc"]
    assert told in found["warnings"]
    assert found["observables"]["plaquette"]["exact"] is None


@pytest.mark.parametrize(
    "table",
    [
        {"name": "newer", "series": "plaquette"},
        {"name": "plaquette", "smeared": True, "every": 1, "series": "plaquette"},
    ],
)
def test_an_observable_of_a_newer_version_is_named_and_its_series_analysed(held: Path, table: dict[str, Any]) -> None:
    replaced(held, "observables", json.dumps([table]))
    with analyse_files([held]) as analysis:
        found = analysis.summary["ensembles"]["hmc"]
    assert any(f"the observable {table['name']!r}, which this version" in text for text in found["warnings"])
    assert list(found["observables"]) == ["plaquette"]


def test_a_header_without_threads_is_refused_by_name(held: Path) -> None:
    with h5py.File(held, "r+") as file:
        del file.attrs["threads"]
        seal(file)
    with pytest.raises(InputError, match="has no attribute 'threads'"):
        analyse_files([held])


@pytest.mark.parametrize("name", ["plaquette", "topological_charge", "action"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_series_that_is_not_finite_is_named_with_its_configuration(held: Path, name: str, value: float) -> None:
    with h5py.File(held, "r+") as file:
        file[f"series/{name}"][7:9, 2] = value
        seal(file)
    told = f"{value} in configuration 7 of chain 2, and not finite in 1 other place"
    assert verify(held)[1:] == [f"{held}: the series {name} is {told}"]
    with analyse_files([held]) as analysis:
        found = analysis.summary["ensembles"]["hmc"]
    if name != "action":  # which no observable of this theory is made of
        assert f"{name}: is {told}: no estimate" in found["warnings"]
    assert "wilson_loop_1x2" in found["observables"]
    assert name not in found["observables"]


def test_a_weight_of_zero_is_no_fault(held: Path) -> None:
    with h5py.File(held, "r+") as file:
        file["series/delta_h"][3, 1] = np.inf
        seal(file)
    assert len(verify(held)) == 1


def test_no_chain_begins_and_no_training_learns_where_a_configuration_is_not_finite(held: Path) -> None:
    with h5py.File(held, "r+") as file:
        file["fields/theta"][59, 1, 0, 2, 3] = np.nan
        seal(file)
    streams = np.zeros((3, 2), np.uint64)
    with pytest.raises(InputError, match="theta is nan in configuration 59 of chain 1; no chain can begin there"):
        start_configurations(THEORY, str(held), streams, None)
    with pytest.raises(InputError, match=r"training\.data"):
        training_data(str(held), THEORY)


def test_a_run_is_not_continued_from_a_header_that_contradicts_the_data(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.parents[1], run)
    edited(run / "ensembles" / "hmc.h5", "theory", shape=[8, 8])
    folder, card = claimed(run, None, ["ensemble.hmc.n_configs=70"])
    with pytest.raises(InputError, match=r"the shape \[8, 8\], but its configurations"):
        generate(folder, card, "hmc", StopRequest(), Console(quiet=True))
    with Ensemble.open(run / "ensembles" / "hmc.h5") as ensemble:
        assert ensemble.n_configs == 60
