"""Topology and data in the report: what the figures draw, what their CSV files hold, what the tables say."""

import copy
import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from report_runs import EXACT, card_of, charges, write, write_flow

from lattice_flows.ensembles import Ensemble
from lattice_flows.estimates.analysis import analyse_run
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.selection import Selection
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.report import write_report
from lattice_flows.report.charge_figures import charge_plots
from lattice_flows.report.charge_tables import topology_tables
from lattice_flows.report.figures import pulls
from lattice_flows.report.page_tables import figure_table, findings
from lattice_flows.report.sector_figures import sector_plots, theta_plots
from lattice_flows.report.style import FigureData

WIDTH, SLOPE, AVERAGE = 1.25, -0.004, 0.7
ANGLES = np.linspace(0.0, math.pi, 7)
VALUES = (1.0, 0.8, 0.4, 0.1, 0.004, -0.003, 0.001)  # the last three are noise
SHARES = (0.05, 0.2, 0.5, 0.2, 0.05)  # of Q = -2 ... 2


def ensemble(frozen: bool = False, trusted: bool = True) -> dict[str, Any]:
    """The summary of an ensemble whose plaquette is a straight line in Q^2."""
    sectors = [
        {"charge": q, "probability": share, "probability_error": 0.003, "exact": None, "gaussian": share,
         "observables": {"plaquette": {"value": AVERAGE + SLOPE * (q * q - WIDTH), "error": 0.001}}}
        for q, share in zip(range(-2, 3), SHARES)
    ]  # fmt: skip
    fit = {"value": AVERAGE, "error": 0.0005, "slope": SLOPE, "slope_error": 0.0002,
           "chi2_per_dof": None, "linear": True,
           "charge_squared": "exact" if frozen else "ensemble"}  # fmt: skip
    theta = [
        {"theta": float(x), "value": value, "error": 0.0 if x == 0 else 0.005, "exact": None, "resolved": value > 0.015}
        for x, value in zip(ANGLES, VALUES)
    ]
    squared = {
        "value": WIDTH,
        "error": 0.02,
        "exact": 2.0,
        "tau_int": 0.5,
        "tau_int_error": 0.1,
        "n_eff": 9,
        "r_hat": 1,
        "trusted": trusted and not frozen,
    }
    plaquette = {**squared, "value": AVERAGE, "error": 0.001, "exact": None}
    return {
        "frozen": frozen,
        "observables": {"plaquette": plaquette, "topological_charge_squared": squared},
        "topology": {"tunnelling_rate": {"value": 0.25, "error": 0.01}, "sectors": sectors,
                     "fixed_charge": {"plaquette": fit}, "theta": theta, "weights": None,
                     "trusted": trusted and not frozen},
    }  # fmt: skip


def test_what_noise_hides_is_drawn_open_and_said(tmp_path: Path):
    (plot,) = theta_plots({"ensembles": {"a": ensemble(), "stuck": ensemble(frozen=True)}}, None)
    (axes,) = plot.figure.axes
    assert axes.get_yscale() == "log"
    filled, hollow = [line for line in axes.get_lines() if line.get_marker() not in ("", "None", None)]
    np.testing.assert_allclose(filled.get_xdata(), ANGLES[:4])
    np.testing.assert_array_equal(filled.get_ydata(), VALUES[:4])
    np.testing.assert_allclose(hollow.get_ydata(), [0.014, 0.01, 0.011])  # two errors above the value or above zero
    assert to_hex(hollow.get_markerfacecolor()) == "#ffffff" != to_hex(filled.get_markerfacecolor())
    assert "3 open symbols" in plot.caption
    assert "frozen: stuck" in plot.caption
    assert [row[5] for row in plot.data.rows] == ["yes"] * 4 + ["no"] * 3
    plot.render("svg")


def test_a_doubtful_charge_has_no_part_in_theta_and_open_sectors():
    both = {"ensembles": {"a": ensemble(), "b": ensemble(trusted=False)}}
    (plot,) = theta_plots(both, None)
    assert {row[0] for row in plot.data.rows} == {"a"}
    assert "cannot be trusted: b" in plot.caption
    assert theta_plots({"ensembles": {"b": ensemble(trusted=False)}}, None) == []
    (plot,) = sector_plots(both)
    faces = []
    for axes in plot.figure.axes:
        points = axes.containers[0][0]
        faces.append(to_hex(points.get_markerfacecolor()) == "#ffffff")
    assert faces == [False, True]
    assert "errors of b cannot be trusted" in plot.caption
    (plot,) = sector_plots({"ensembles": {"a": ensemble()}})
    assert "Open symbols" not in plot.caption


@pytest.mark.parametrize("doubt", ["nothing", "charge", "plaquette", "frozen"])
def test_tables_mark_what_is_not_to_be_trusted(doubt: str):
    entry = ensemble(frozen=doubt == "frozen", trusted=doubt != "charge")
    entry["observables"]["plaquette"]["trusted"] = doubt in ("nothing", "charge")
    entry["observables"]["topological_susceptibility"] = entry["observables"]["topological_charge_squared"]
    entry["topology"]["sectors"][0] |= {"probability": None, "probability_error": None}
    entry["topology"]["weights"] = [
        {
            "charge": 0,
            "share": 0.5,
            "share_error": 0.011,
            "exact": None,
            "n_configs": 500,
            "ess": 0.9,
            "ess_error": 0.02,
        },
        {
            "charge": 1,
            "share": 0.001,
            "share_error": None,
            "exact": None,
            "n_configs": 1,
            "ess": 1.0,
            "ess_error": None,
        },
    ]
    tables = topology_tables({"theory": {}, "flow": None, "ensembles": {"a": entry}})
    assert tables is not None
    of_charge, of_plaquette = doubt in ("charge", "frozen"), doubt != "nothing"
    (motion,) = tables.motion.rows
    assert [cell.endswith(" !") for cell in motion[1:4]] == [of_charge, of_charge, False]
    (fit,) = tables.fixed_charge.rows
    assert [cell.endswith(" !") for cell in (fit[2], fit[5])] == [of_plaquette] * 2
    assert fit[3].endswith(" !") == (doubt in ("plaquette", "frozen"))
    assert fit[-1] == ("closed form" if doubt == "frozen" else "ensemble")
    first, second, *_ = tables.sectors[0].rows
    assert first[1] == "-"
    assert second[1].endswith(" !") == of_charge
    assert second[-1].endswith(" !") == of_plaquette
    mark = " !" if of_charge else ""
    assert [row[1] for row in tables.weights[0].rows] == [f"0.500(11){mark}", f"0.00100000{mark}"]
    assert [row[3] for row in tables.weights[0].rows] == ["0.900(20)", "-"]


def test_a_fit_that_chi_squared_refuses_is_marked():
    entry = ensemble()
    entry["topology"]["fixed_charge"]["plaquette"] |= {"linear": False, "chi2_per_dof": 189.2}
    tables = topology_tables({"theory": {}, "flow": None, "ensembles": {"a": entry}})
    assert tables is not None
    (fit,) = tables.fixed_charge.rows
    assert [cell for cell in fit if cell.endswith(" !")] == [fit[2], fit[5], "189 !"]


def test_pulls_are_open_one_by_one():
    row = {"value": 1.0, "error": 0.1, "exact": 0.9, "pull": 1.0, "trusted": True}
    rows = {"plaquette": row, "topological_charge": {**row, "trusted": False, "pull": -2.0}}
    unreliable = {"frozen": False, "observables": {"plaquette": {**row, "trusted": False, "pull": 0.5}},
                  "reweighting": {"reliable": False}}  # fmt: skip
    flow = {"log_z_reliable": False, "observables": {"plaquette": {**row, "pull": 1.5}}}
    summary = {"flow": flow, "ensembles": {"a": {"frozen": False, "observables": rows}, "b": unreliable}}
    (plot,) = pulls(summary)
    drawn = [line for line in plot.figure.axes[0].get_lines() if line.get_marker() not in ("", "None", None)]
    filled = {float(line.get_xdata()[0]): to_hex(line.get_markerfacecolor()) != "#ffffff"
              for line in drawn if len(line.get_xdata()) == 1}  # fmt: skip
    assert filled == {1.0: True, -2.0: False, 0.5: False, 1.5: False}
    assert [row[3] for row in plot.data.rows] == ["yes", "no", "no", "no"]
    flow["log_z_reliable"] = True
    (plot,) = pulls(summary)
    assert [row[3] for row in plot.data.rows] == ["yes", "no", "no", "yes"]


def test_a_curve_that_hardly_falls_needs_no_logarithm():
    entry = ensemble()
    entry["topology"]["theta"] = entry["topology"]["theta"][:4]
    (plot,) = theta_plots({"ensembles": {"a": entry}}, EXACT)
    assert plot.figure.axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(("frozen", "at"), [(False, WIDTH), (True, 2.0)])
def test_the_fit_passes_the_average_at_the_width(frozen: bool, at: float):
    (plot,) = sector_plots({"ensembles": {"a": ensemble(frozen)}})
    fit = next(
        line for line in plot.figure.axes[0].get_lines() if line.get_linestyle() == "-" and len(line.get_xdata()) == 2
    )
    np.testing.assert_allclose(fit.get_ydata(), [AVERAGE + SLOPE * (x - at) for x in (0.0, 4.0)])
    told = {row[4]: row[1:4] for row in plot.data.rows}
    assert told["from fixed charge, at the mean of Q^2"] == (at, AVERAGE, 0.0005)
    assert told["plain average"] == (None, AVERAGE, 0.001)
    assert told["sector Q = -2"][0] == 4


def test_no_topology_no_figures():
    assert theta_plots({"ensembles": {"a": {"topology": None}}}, EXACT) == []
    assert sector_plots({"ensembles": {"a": {"topology": {"sectors": [], "theta": []}}}}) == []


def test_without_a_closed_form_a_gaussian_of_the_measured_width(tmp_path: Path):
    card, charge = card_of({"a": "hmc"}), charges("gaussian", 300, 2)
    write(tmp_path / "a.h5", card, charge, sampler="hmc")
    with Ensemble.open(tmp_path / "a.h5") as file:
        summary = {"ensembles": {"a": {"frozen": False, "observables": {}}}}
        plots = {plot.name: plot for plot in charge_plots([Replicas("a", (file,))], summary, None)}
    bars, _ = plots["charge_distribution"].figure.axes[0].containers
    heights = np.array([bar.get_height() for bar in bars])
    q = np.arange(len(heights)) - len(heights) // 2
    expected = np.exp(-(q**2) / (2 * np.mean(charge**2)))
    np.testing.assert_allclose(heights, expected / expected.sum(), rtol=1e-12)
    assert "Gaussian" in plots["charge_distribution"].caption


def test_a_csv_holds_every_digit():
    data = FigureData(("name", "x", "n"), [("a, b", np.float64(0.1) + 0.2, 3), ('"', math.nan, 4), ("c", None, 5)])
    read = list(csv.reader(data.csv().decode().splitlines()))
    assert read == [["name", "x", "n"], ["a, b", "0.30000000000000004", "3"], ['"', "", "4"], ["c", "", "5"]]


def test_a_long_table_is_thinned_evenly():
    shown = figure_table("x", FigureData(("i",), [(i,) for i in range(250)]))
    assert (shown.step, shown.n_rows) == (3, 250)
    assert [row[0] for row in shown.table.rows] == [str(i) for i in range(0, 250, 3)]


def test_findings_name_value_doubt_and_cost():
    label = {"plain": "chi_top", "page": "χ_top", "tex": "chi"}
    row = {"value": 0.02, "error": 0.0011, "exact": 0.021, "pull": -0.9, "trusted": True, "label": label}
    one = {"frozen": False, "seconds_per_independent_config": 0.5, "cost_observable": None,
           "observables": {"topological_susceptibility": row}}  # fmt: skip
    stuck = {**one, "frozen": True, "seconds_per_independent_config_at_least": 7.0}
    flow = {"ess": 0.5, "ess_error": 0.011, "n_samples": 2000, "largest_weight_share": 0.002, "pareto_k": 0.312,
            "largest_weight_over_mean": 4.0, "log_z_reliable": True, "ess_reliable": True, "dominated": False,
            "n_parameters": 321, "n_steps": 1200, "train_seconds": 60.0, "train_processes": 1}  # fmt: skip
    told = dict(findings({"flow": flow, "ensembles": {"stuck": stuck, "one": one}}))
    assert list(told) == ["trained flow", "one", "stuck"]
    assert told["trained flow"] == (
        "ESS 0.500(11), largest weight 4.0 × mean (0.20 % of the sum), Pareto k-hat 0.31; "
        "321 parameters, 60 s of training (1200 steps)."
    )
    ((_, doubtful),) = findings({"flow": {**flow, "dominated": True}, "ensembles": {}})
    assert doubtful.startswith("ESS 0.500(11) (unreliable), ")
    assert told["one"].startswith("χ_top = 0.0200(11) (exact: 0.02100, pull -0.9), at 500 ms per")
    assert told["stuck"].startswith("frozen; χ_top = 0.0200(11) cannot be trusted, at more than 7000 ms per")


def test_the_page_shows_what_was_taken_and_what_is_known(tmp_path: Path):
    folder, card = RunFolder(tmp_path), card_of({"a": "hmc"}, flow=True)
    write_flow(folder, card, spread=0.3)
    write(folder.ensemble("a"), card, charges("a", 400, 4, 0.5), sampler="hmc")
    with analyse_run(folder, card, Selection(thermalisation=100, every=2)) as analysis:
        analysis.summary["flow"]["forward"] = {"a": {"ess": 0.125, "ess_error": 0.011, "n_samples": 77,
                                                     "collapsed": True, "verdict": "mode collapse"}}  # fmt: skip
        write_report(folder, card, analysis, folder.report)
        page = (folder.report / "index.html").read_text("utf-8")
        history = csv.DictReader((folder.report / "charge_history.csv").read_text().splitlines())
        less = copy.deepcopy(analysis.summary)
        del less["flow"]["forward"]
        less["ensembles"]["a"]["topology"] = None
        write_report(folder, card, replace(analysis, summary=less), folder.report)
        page_of_less = (folder.report / "index.html").read_text("utf-8")
    assert "<td>77</td><td>0.125(11)</td>" in page
    assert "mode collapse" in page
    assert 'id="topology"' in page
    assert "the first 100 configurations of each chain dropped" in page
    numbers = [int(row["configuration"]) for row in history if row["ensemble"] == "a"]
    assert numbers[0] == 100
    assert set(np.diff(numbers)) == {2}
    assert "Mode-collapse test" not in page_of_less
    assert 'id="topology"' not in page_of_less
