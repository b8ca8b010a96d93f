"""The table of flows: its figures against direct calls, what it makes of several seeds, and the cards of its rows."""

import csv
import math
import runpy
import zlib
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lattice_flows.card.build import build_flow
from lattice_flows.card.card import read_card
from lattice_flows.ensembles import Ensemble
from lattice_flows.stages import train_stage
from lattice_flows.statistics import effective_sample_size, largest_weight_share, log_partition, pareto_k
from lattice_flows.theories import ImprovedU1, WilsonU1
from lattice_flows.training import read_checkpoint

ROOT = Path(__file__).parents[2]
SCRIPT, TRAIN = ROOT / "analysis" / "ess_table.py", ROOT / "runs" / "ess_table" / "train.py"
SEED = zlib.crc32(b"tests/analysis/test_ess_table.py")
BETA = 1.0
CARD = f"""
[theory]
name = "u1"
shape = [4, 4]
beta = {BETA}
[flow]
name = "plaquette_coupling"
n_layers = 4
hidden = [8]
[training]
max_steps = 30
"""
RUNS = {
    "one": [f"seed={SEED}"],
    "two": [f"seed={SEED + 1}"],
    "tree": ["flow={name = 'multiscale', conditioner = 'exact'}"],
    "improved": ["theory={name = 'u1_improved', shape = [4, 4], beta = 2.0, c1 = 0.05}"],
}


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a flow, one without parameters, one of another theory."""
    out = tmp_path_factory.mktemp("runs")
    (out / "card.toml").write_text(CARD)
    for name, overrides in RUNS.items():
        train_stage(out / "card.toml", out / "runs" / name, overrides, Console(quiet=True))
    return out / "runs"


@pytest.fixture(scope="module")
def rows(script, runs) -> dict[tuple[str, int], Any]:
    return {(row.flow, row.seed): row for row in script["read_rows"](runs)}


def log_weights(run: Path) -> Any:
    with Ensemble.open(run / "flow" / "evaluation.h5") as file:
        return file.proposals("log_w").ravel()


def test_figures_are_those_of_the_weights_and_of_the_checkpoint(rows, runs):
    for name, key in (("one", ("plaquette_coupling", SEED)), ("tree", ("multiscale exact", 1))):
        row, log_w = rows[key], log_weights(runs / name)
        checkpoint = read_checkpoint(runs / name / "flow" / "checkpoint.pt")
        assert (row.ess, row.ess_error) == pytest.approx(effective_sample_size(log_w), rel=1e-9)
        assert (row.log_z, row.log_z_error) == pytest.approx(log_partition(log_w), rel=1e-12)
        assert row.largest_weight == pytest.approx(16384 * largest_weight_share(log_w))
        assert (row.n_samples, row.pareto_k) == (16384, pytest.approx(pareto_k(log_w)))
        assert (row.steps, row.train_seconds) == (checkpoint.step, checkpoint.train_seconds)
        assert (row.theory, row.shape, row.couplings) == ("u1", "4x4", "beta = 1")
    assert rows["multiscale exact", 1].n_parameters == 0
    flow = build_flow(read_card(runs / "one" / "card.toml"), "cpu")
    assert rows["plaquette_coupling", SEED].n_parameters == sum(one.numel() for one in flow.parameters())


def test_pulls_are_against_the_closed_forms(rows, script):
    of_theory = {"u1": WilsonU1(BETA), "u1_improved": ImprovedU1(2.0, 0.05)}
    for row in rows.values():
        exact = of_theory[row.theory].closed_forms((4, 4))
        assert row.reference == pytest.approx(exact.log_z)
        assert row.log_z_pull == pytest.approx((row.log_z - exact.log_z) / row.log_z_error)
        for pull in (row.log_z_pull, row.plaquette_pull, row.charge_squared_pull):
            assert abs(pull) < 4.5
        wrong = of_theory[row.theory].scaled(1.03).closed_forms((4, 4)).log_z  # a planted error
        assert abs(script["pull_of"](row.log_z, row.log_z_error, wrong)) > 4.5
    assert script["pull_of"](1.0, 0.1, None) is script["pull_of"](1.0, math.nan, 1.0) is None


def test_line_is_of_the_median_and_tells_the_worst(script, rows):
    row = rows["plaquette_coupling", SEED]
    figures = ((0.9, 1.5, 0.1, True), (0.5, 30.0, 0.8, False), (0.7, 4.0, 0.2, True))
    seeds = [
        row._replace(
            seed=k, steps=k, ess=ess, ess_error=0.01, largest_weight=largest, pareto_k=khat, ess_reliable=reliable
        )
        for k, (ess, largest, khat, reliable) in enumerate(figures)
    ]
    other = row._replace(options="{}", ess=0.25, ess_error=0.01)
    heading, _, first, second = script["table"]([*seeds, other]).splitlines()
    line = dict(zip(script["HEADINGS"], (cell.strip() for cell in first.strip("|").split("|"))))
    assert (line["seeds"], line["steps"]) == ("3", "2")
    assert (line["ESS, median"], line["ESS, worst"]) == ("0.700(10)", "at most 0.5000")
    assert (line["largest weight / mean"], line["k-hat"]) == ("30", "0.80")
    assert "0.250(10)" in second
    assert len({len(one) for one in (heading, first, second)}) == 1
    two = script["cells"](seeds[:2])
    assert two[7:9] == ("0.900(10)", "at most 0.5000")


def test_agreement_is_of_trusted_estimates(script, rows):
    row = rows["plaquette_coupling", SEED]
    pulls = [row._replace(log_z_pull=one, log_z_reliable=one != 9.0) for one in (1.0, -2.0, 9.0, None)]
    log_z, *_ = script["agreement"](pulls).splitlines()
    assert log_z == f"log Z: chi^2 = 5.0 of 2 estimates, p = {math.exp(-2.5):.2g}"


def test_prints_the_table_and_writes_every_seed(script, runs, tmp_path, capsys):
    script["main"]([str(runs), str(tmp_path / "new" / "table.csv")])
    with (tmp_path / "new" / "table.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert sorted(row["flow"] for row in written) == ["multiscale exact", *3 * ["plaquette_coupling"]]
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(printed) == 2 + 3  # the seeds of one flow are one line
    assert [line.split("|")[4].strip() for line in printed if "plaquette_coupling | u1," in line] == ["2"]


def test_wrong_input_is_one_line_and_status_2(script, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ess_table.py"])
    (tmp_path / "file").write_text("")
    wrong = {
        "no finished training": (tmp_path, tmp_path / "x.csv"),
        "cannot be written": (runs / "one", tmp_path / "file" / "x.csv"),
    }
    for told, arguments in wrong.items():
        with pytest.raises(SystemExit) as ended:
            script["main"](list(map(str, arguments)))
        message = capsys.readouterr().err
        assert ended.value.code == 2
        assert message.startswith("ess_table.py: ")
        assert (message.count("\n"), message.count(told)) == (1, 1)


def train_rows() -> dict[str, Any]:
    return runpy.run_path(str(TRAIN))["ROWS"]


def test_every_row_is_a_sound_card_of_its_name():
    for name, row in train_rows().items():
        card = read_card(TRAIN.with_name("card.toml"), row.overrides(3))
        assert card.flow is not None
        assert (card.seed, card.training.max_seconds, card.training.max_steps) == (3, row.seconds, None)
        assert "x".join(map(str, card.theory.shape)) in name.split("_")
        assert name.split("_")[0] in (*card.flow.name.split("_"), card.flow.options.get("conditioner"))
        if "beta" in card.theory.couplings:
            assert f"beta{card.theory.couplings['beta']:g}" in name.split("_")


def test_finished_row_is_left_alone(tmp_path, monkeypatch):
    train = runpy.run_path(str(TRAIN))
    row = train["Row"]("{name = 'u1', shape = [4, 4], beta = 1.0}", train["COUPLING"], 60, ("max_steps=3",))
    inside = train["run"].__globals__
    monkeypatch.setitem(inside, "ROWS", {"small": row})
    compiled: list[Any] = []
    compile_kernels = inside["compile_kernels"]
    monkeypatch.setitem(inside, "compile_kernels", lambda card: compiled.append(card) or compile_kernels(card))
    told = train["run"]((tmp_path, "small", 2))
    checkpoint = tmp_path / "small" / "seed2" / "flow" / "checkpoint.pt"
    first = checkpoint.read_bytes()
    assert read_checkpoint(checkpoint).step == 3
    assert told.startswith(str(tmp_path / "small" / "seed2"))
    train["run"]((tmp_path, "small", 2))
    assert checkpoint.read_bytes() == first
    assert len(compiled) == 1
