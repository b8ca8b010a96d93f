"""The scripts of the figures: their numbers against direct calls, their files, and what they say to wrong input."""

import csv
import runpy
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from rich.console import Console

from lattice_flows.ensembles import Ensemble
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.report.figure_script import open_scan
from lattice_flows.stages import sample_stage, train_stage
from lattice_flows.statistics import (
    effective_sample_size,
    gamma_method,
    log_partition,
    reliability,
    reweighted,
)
from lattice_flows.theories import ExactU1

SCRIPTS = Path(__file__).parents[2] / "analysis"
NAMES = ("q_history", "tau_int_vs_beta", "chi_top_scaling", "ess_vs_volume", "free_energy")
SEED = zlib.crc32(b"tests/analysis/test_scripts.py")

SCAN = """
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
[[ensemble]]
name = "hmc"
sampler = "hmc"
n_md_steps = 5
n_configs = 1500
n_updates = 2
store_fields = false
[[ensemble]]
name = "direct"
sampler = "direct"
n_configs = 500
store_fields = false
[[observable]]
name = "plaquette"
every = 3
[[observable]]
name = "topological_charge"
every = 2
"""
FLOW = """
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
[flow]
name = "plaquette_coupling"
transform = "projection"
n_layers = 4
hidden = [8]
[training]
max_steps = 30
"""
SCALAR = """
[theory]
name = "phi4"
shape = [4, 4]
m2 = 1.0
lam = 1.0
[[ensemble]]
name = "hmc"
sampler = "hmc"
n_configs = 20
n_thermalisation = 5
"""
FROZEN = ["theory.shape=[8, 8]", "theory.beta=12.0", "ensemble.hmc.start=cold", "ensemble.hmc.n_configs=80"]
WARM = ["theory.shape=[8, 8]", "ensemble.hmc.n_configs=80"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Ensemble files by name: two couplings, a second seed, a frozen one, two flows, a scalar theory."""
    out, quiet = tmp_path_factory.mktemp("runs"), Console(quiet=True)
    cards = {"scan": SCAN, "flow": FLOW, "scalar": SCALAR}
    for name, text in cards.items():
        (out / f"{name}.toml").write_text(f"seed = {SEED}\n{text}")
    runs = {
        "b1": ["theory.beta=1.0"],
        "b2": ["theory.beta=2.0"],
        "seed": [f"seed={SEED + 1}"],
        "frozen": FROZEN,
        "warm": WARM,
    }
    for name, overrides in runs.items():
        sample_stage(out / "scan.toml", out / name, overrides, ["hmc", "direct"][: 2 if name[0] == "b" else 1], quiet)
    sample_stage(out / "scalar.toml", out / "scalar", [], [], quiet)
    files = {name: out / name / "ensembles" / "hmc.h5" for name in (*runs, "scalar")}
    for side in (4, 8):
        train_stage(out / "flow.toml", out / f"flow{side}", [f"theory.shape=[{side}, {side}]"], quiet)
        files[f"flow{side}"] = out / f"flow{side}" / "flow" / "evaluation.h5"
    return files | {f"direct{b}": out / f"b{b}" / "ensembles" / "direct.h5" for b in (1, 2)}


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Run a script as a person would; the rows of its CSV."""

    def run(name: str, *files: Path) -> list[dict[str, str]]:
        target = tmp_path / f"{name}.pdf"
        started(monkeypatch, name, *files, "--out", target)
        assert target.read_bytes().startswith(b"%PDF")
        with target.with_suffix(".csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return run


def started(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: Path | str) -> None:
    script = SCRIPTS / f"{name}.py"
    monkeypatch.setattr("sys.argv", [str(script), *map(str, arguments)])
    runpy.run_path(str(script), run_name="__main__")


def series(path: Path, name: str) -> np.ndarray:
    with Ensemble.open(path) as file:
        return file.series(name)


def log_weights(path: Path) -> np.ndarray:
    with Ensemble.open(path) as file:
        return file.proposals("log_w").ravel()


def test_tau_int_is_that_of_the_series_in_updates(table, made):
    charge, plaquette = table("tau_int_vs_beta", made["b1"])
    for row, values, spacing in (
        (charge, np.rint(series(made["b1"], "topological_charge")) ** 2, 4),
        (plaquette, series(made["b1"], "plaquette"), 6),
    ):
        direct = gamma_method(values)
        assert float(row["tau_int"]) == pytest.approx(spacing * direct.tau_int, rel=1e-12)
        assert float(row["error"]) == pytest.approx(spacing * direct.tau_int_error, rel=1e-12)
        assert (row["kind"], row["updates_per_measurement"], row["beta"]) == ("value", str(spacing), "1.0")


def test_frozen_charge_gives_a_bound_and_an_arrow(table, made):
    rows = [row for row in table("tau_int_vs_beta", made["b1"], made["frozen"]) if row["beta"] == "12.0"]
    (bound,) = [row for row in rows if row["observable"] == "topological_charge_squared"]
    assert (bound["kind"], bound["error"], bound["changes_of_charge"]) == ("bound", "", "0")
    assert float(bound["tau_int"]) == 4 * 80 * 2 / 2  # n_chains n_configs n_updates / 2
    (inside,) = [row for row in rows if row["observable"] == "plaquette"]
    assert inside["kind"] == "doubtful"


def test_bounds_are_drawn_as_arrows_and_never_joined():
    script = runpy.run_path(str(SCRIPTS / "tau_int_vs_beta.py"))
    row = script["Row"]("hmc", "hmc", "8x8", 1.0, "topological_charge_squared", "value", 3.0, 0.1, 1, 900)
    rows = [row, row._replace(beta=2.0, kind="bound", tau_int=500.0, error=None)]
    for kind, n_arrows, n_joined in (("bound", 1, 1), ("value", 0, 2)):
        axes = script["draw"]([rows[0], rows[1]._replace(kind=kind, error=None if kind == "bound" else 1.0)]).axes[0]
        arrows = [line for line in axes.lines if line.get_marker() == 10 and len(line.get_xdata())]  # CARETUPBASE
        assert len(arrows) == n_arrows
        assert len(axes.lines[0].get_xdata()) == n_joined


def test_equal_ensembles_are_replicas(table, made):
    (row, _) = table("tau_int_vs_beta", made["b1"], made["seed"])
    both = [chain for name in ("b1", "seed") for chain in np.rint(series(made[name], "topological_charge")).T ** 2]
    assert float(row["tau_int"]) == pytest.approx(4 * gamma_method(both).tau_int, rel=1e-12)


def test_susceptibility_is_that_of_the_series_and_agrees(table, made):
    rows = table("chi_top_scaling", made["direct2"], made["b1"], made["frozen"])
    assert [row["beta"] for row in rows] == ["1.0", "2.0", "12.0"]
    assert [row["trusted"] for row in rows] == ["True", "True", "False"]
    for row, name, beta in ((rows[0], "b1", 1.0), (rows[1], "direct2", 2.0)):
        direct = gamma_method(np.rint(series(made[name], "topological_charge")) ** 2 / 16)
        assert float(row["chi_top"]) == pytest.approx(direct.value, rel=1e-12)
        assert float(row["error"]) == pytest.approx(direct.error, rel=1e-12)
        assert float(row["exact"]) == pytest.approx(ExactU1(beta, 16).susceptibility, rel=1e-12)
        assert float(row["scaled"]) == pytest.approx(4 * np.pi**2 * beta * direct.value, rel=1e-12)
        assert abs(float(row["pull"])) < 4.5
        off = ExactU1(1.3 * beta, 16).susceptibility
        assert abs(direct.value - off) / direct.error > 4.5


def test_continuum_limit_of_the_closed_form():
    script = runpy.run_path(str(SCRIPTS / "chi_top_scaling.py"))
    beta = 2000.0
    chi_top = ExactU1(beta, int(script["INFINITE"] * beta)).susceptibility
    assert script["CONTINUUM"] * beta * chi_top == pytest.approx(1.0, abs=1.0 / beta)


def test_history_holds_the_charges_and_their_configurations(table, made):
    rows = table("q_history", made["b1"], made["frozen"])
    charge = np.rint(series(made["b1"], "topological_charge"))
    for chain in range(3):
        own = [row for row in rows if row["beta"] == "1.0" and row["chain"] == str(chain)]
        assert len(own) >= 200
        assert [int(row["config"]) for row in own] == list(range(0, 2 * len(own), 2))  # measured at every second one
        assert [int(row["charge"]) for row in own] == charge[: len(own), chain].tolist()
    assert {row["frozen"] for row in rows if row["beta"] == "1.0"} == {"False"}
    assert {row["frozen"] for row in rows if row["beta"] == "12.0"} == {"True"}


def test_distribution_is_that_of_the_indicator_series(table, made):
    for name in ("b1", "flow4"):
        rows = [row for row in table("q_history", made[name]) if row["probability"]]
        charge = np.rint(series(made[name], "topological_charge"))
        for row in rows:
            indicator = (charge == int(row["charge"])).astype(float)
            direct = reweighted(indicator, series(made[name], "log_w")) if name == "flow4" else gamma_method(indicator)
            assert float(row["probability"]) == pytest.approx(direct.value, abs=1e-12)
            # Of a charge that no chain leaves there is no error.
            assert float(row["error"] or "nan") == pytest.approx(direct.error, abs=1e-12, nan_ok=True)
            truth = ExactU1(1.0, 16).charge_distribution(abs(int(row["charge"])))[0]
            assert float(row["exact"]) == pytest.approx(truth, abs=1e-12)
        assert sum(float(row["probability"]) for row in rows) == pytest.approx(1.0)


def test_ess_is_that_of_the_weights(table, made):
    small, large = table("ess_vs_volume", made["flow8"], made["flow4"])
    assert (small["lattice"], large["lattice"]) == ("4x4", "8x8")
    assert {(row["flow"], row["theory"]) for row in (small, large)} == {("plaquette_coupling", "beta = 1")}
    for row, name in ((small, "flow4"), (large, "flow8")):
        log_w = log_weights(made[name])
        value, error = effective_sample_size(log_w)
        assert (float(row["ess"]), float(row["error"])) == (value, error)
        assert (row["reliable"], row["n_samples"]) == (str(reliability(log_w).ess), str(log_w.size))
    assert float(small["extrapolated"]) == pytest.approx(float(small["ess"]))
    assert float(large["extrapolated"]) == pytest.approx(float(small["ess"]) ** 4)


def volume_row(script: dict[str, Any], **changes: Any) -> Any:
    return script["Row"]("flow", "4x4", 16, "beta = 1", 0.5, 0.1, 0.5, 1000, 0.3, True)._replace(**changes)


def test_seeds_of_a_flow_are_points_of_one_line():
    script = runpy.run_path(str(SCRIPTS / "ess_vs_volume.py"))
    line = [volume_row(script, ess=ess) for ess in (0.5, 0.7, 0.8)] + [volume_row(script, n_sites=64, ess=0.2)]
    assert script["extrapolated"](line, 64) == pytest.approx(0.7**4)
    other = [volume_row(script, flow="multiscale mlp", theory="phi4, m2 = -4, lam = 8", n_sites=n) for n in (16, 64)]
    axes = script["draw"]([*line, *other]).axes[0]
    guides = [one for one in axes.lines if one.get_linestyle() == "--" and len(one.get_xdata())]
    assert [list(one.get_xdata()) for one in guides] == [[16, 64]] * 2
    assert guides[0].get_ydata() == pytest.approx([-np.log(0.7), -4 * np.log(0.7)])
    names = axes.get_legend_handles_labels()[1]
    assert names[:2] == [r"flow, $\beta$ = 1", r"multiscale mlp, phi4, $m^2$ = -4, $\lambda$ = 8"]


def test_perfect_weights_can_be_drawn():
    script = runpy.run_path(str(SCRIPTS / "ess_vs_volume.py"))
    axes = script["draw"]([volume_row(script, ess=1.0, error=0.0), volume_row(script, n_sites=64, ess=0.999)]).axes[0]
    bottom, top = axes.get_ylim()
    assert 0 < top < script["defect"](1.0) < script["defect"](0.999) < bottom


def test_theory_is_named_by_its_couplings():
    name = runpy.run_path(str(SCRIPTS / "ess_vs_volume.py"))["theory_name"]
    lattice = {"shape": [8, 8], "boundary": "periodic"}
    assert name({"name": "u1", "beta": 6.0, **lattice}) == "beta = 6"
    assert name({"name": "u1_improved", "beta": 6.0, "c1": 1 / 12, **lattice}) == "u1_improved, beta = 6, c1 = 0.08333"


def test_unreliable_weights_are_open():
    script = runpy.run_path(str(SCRIPTS / "ess_vs_volume.py"))
    row = volume_row(script)
    figure = script["draw"]([row, row._replace(lattice="8x8", n_sites=64, ess=0.1, reliable=False)])
    points = [line for line in figure.axes[0].lines if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    faces = {float(line.get_xdata()[0]): to_rgba(line.get_markerfacecolor()) for line in points}
    assert faces[64.0] == to_rgba("white") != faces[16.0]


def test_free_energy_of_weights(table, made):
    rows = table("free_energy", made["flow4"], made["flow8"])
    for row, name, n_sites in zip(rows, ("flow4", "flow8"), (16, 64)):
        value, error = log_partition(log_weights(made[name]))
        assert (float(row["log_z"]), float(row["error"]), row["reference_beta"]) == (value, error, "")
        assert float(row["exact"]) == ExactU1(1.0, n_sites).log_z
        assert abs(float(row["pull"])) < 4.5


def test_free_energy_differences_of_chains(table, made):
    (row,) = table("free_energy", made["direct1"], made["direct2"])
    assert (row["method"], row["reference_beta"], row["beta"]) == ("MBAR", "1.0", "2.0")
    assert float(row["exact"]) == ExactU1(2.0, 16).log_z - ExactU1(1.0, 16).log_z
    assert abs(float(row["pull"])) < 4.5
    # The difference of one ensemble alone, log <exp(-(S' - S))>, is less precise and knows nothing of MBAR.
    log_w = -series(made["direct1"], "action").ravel()
    value, error = log_partition(log_w)
    assert abs(float(row["log_z"]) - value) < 4.5 * np.hypot(error, float(row["error"]))


def test_free_energy_notices_an_action_slightly_off(made, monkeypatch):
    script, series_of = runpy.run_path(str(SCRIPTS / "free_energy.py")), Replicas.series
    with ExitStack() as stack:
        groups = open_scan([made["direct1"], made["direct2"]], stack)
        (right,) = script["rows_of_chains"](groups)
        monkeypatch.setattr(Replicas, "series", lambda self, name: [1.07 * chain for chain in series_of(self, name)])
        (wrong,) = script["rows_of_chains"](groups)
    assert abs(right.pull) < 4.5 < abs(wrong.pull)


def test_equal_numbers_give_equal_files(tmp_path, monkeypatch, made):
    for name in ("one", "two"):
        started(monkeypatch, "ess_vs_volume", made["flow4"], "--out", tmp_path / name / "ess.pdf")
    for suffix in ("pdf", "csv"):
        assert (tmp_path / f"one/ess.{suffix}").read_bytes() == (tmp_path / f"two/ess.{suffix}").read_bytes()


WRONG = {
    "no file": (NAMES, lambda made: [], "the following arguments are required"),
    "missing": (NAMES, lambda made: [made["b1"].with_name("other.h5")], "is not an ensemble file"),
    "a folder": (NAMES, lambda made: [made["b1"].parent], "is not an ensemble file"),
    "not HDF5": (NAMES, lambda made: [made["b1"].parents[1] / "card.toml"], ""),
    "twice": (NAMES, lambda made: [made["b1"], made["b1"]], "holds the same chains"),
    "no charge": (
        ("q_history", "tau_int_vs_beta", "chi_top_scaling", "free_energy"),
        lambda made: [made["scalar"]],
        "no topological charge",
    ),
    "no weights": (("ess_vs_volume",), lambda made: [made["b1"]], "holds no weights of flow samples"),
    "one coupling": (("free_energy",), lambda made: [made["b1"]], "one beta alone"),
    "no overlap": (("free_energy",), lambda made: [made["warm"], made["frozen"]], "do not overlap"),
}


@pytest.mark.parametrize(("name", "case"), [(name, case) for case, wrong in WRONG.items() for name in wrong[0]])
def test_wrong_input_is_one_line_and_status_2(name, case, made, tmp_path, monkeypatch, capsys):
    files, told = WRONG[case][1](made), WRONG[case][2]
    assert refused(monkeypatch, capsys, name, *files, "--out", tmp_path / "x.pdf").count(told)
    assert not list(tmp_path.iterdir())


def test_wrong_target_is_one_line_and_status_2(made, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    assert "--out" in refused(monkeypatch, capsys, "q_history", made["b1"])
    assert ".pdf" in refused(monkeypatch, capsys, "q_history", made["b1"], "--out", tmp_path / "x.doc")
    assert "cannot be written" in refused(
        monkeypatch, capsys, "q_history", made["b1"], "--out", tmp_path / "file/x.pdf"
    )


def refused(monkeypatch, capsys, name: str, *arguments: Path | str) -> str:
    with pytest.raises(SystemExit) as ended:
        started(monkeypatch, name, *arguments)
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith(f"{name}.py: ")
    assert message.count("\n") == 1
    return message
