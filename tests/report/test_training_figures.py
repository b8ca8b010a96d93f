"""The learning curves: every ESS with its error, and what a poor flow says is to be seen."""

import math

import numpy as np
import pytest

from lattice_flows.production.train import _seen
from lattice_flows.report.training_figures import training_plots
from lattice_flows.training.history import Record


def look(step, ess, **more):
    """A look at a training that ends 1.5 below log Z."""
    known = {"ess_error": 0.1 * ess, "largest_share": 0.004, "n_samples": 1024.0, "log_z": 2.0, "log_z_error": 0.05,
             "log_z_bound_error": 0.031}  # fmt: skip
    return Record(step, step / 10, -0.5, ess, 0.5, 1e-3, 1.0, 1.0, **{**known, **more})


@pytest.mark.parametrize("n", [1, 5, 60])
def test_every_point_of_the_ess_has_its_error(n):
    rows = [look(step, 0.5 * step / n) for step in range(1, n + 1)]
    (plot,) = training_plots(rows, None)
    _, axes, _ = plot.figure.axes
    drawn = [path.vertices for collection in axes.collections for path in collection.get_paths()]
    highest = max(float(part[:, 1].max()) for part in drawn)
    assert highest == pytest.approx(0.55)
    assert "The ESS ends at 0.500(50), of 1024 samples whose largest weight is 4.1 times the mean." in plot.caption
    assert "the ESS at 0.500(50)" in plot.alternative
    assert dict(zip(plot.data.headings, plot.data.rows[-1]))["ESS"] == 0.5
    plot.render("svg")


@pytest.mark.parametrize(("ess", "top"), [(0.02, 0.0264), (0.4, 0.528), (0.99, 1.0)])
def test_a_small_ess_can_be_read(ess, top):
    (plot,) = training_plots([look(1, 0.1 * ess), look(2, ess)], None)
    assert plot.figure.axes[1].get_ylim() == pytest.approx((0.0, top))


def test_log_z_of_a_poor_flow_is_inside():
    (plot,) = training_plots([look(1, 0.01), look(2, 0.02)], None)
    low, high = plot.figure.axes[2].get_ylim()
    assert low < 0.5 < 2.0 < high


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_a_history_without_errors_is_drawn(unknown):
    rows = [look(1, 0.3, ess_error=unknown, n_samples=None, largest_share=None, log_z=None, log_z_error=unknown)]
    (plot,) = training_plots(rows, None)
    assert "The ESS ends at -." in plot.caption  # of nobody knows how many samples
    assert np.isfinite(plot.figure.axes[1].get_ylim()).all()
    plot.render("svg")


def test_the_progress_of_a_training_has_errors_and_doubts():
    assert _seen(look(1, 0.5)) == "ESS 0.500(50), log Z >= 0.500(31)"
    assert _seen(look(1, 0.05)) == "ESS 0.0500(50) (unreliable), log Z >= 0.500(31)"
    assert _seen(look(1, 0.5, largest_share=0.03)).startswith("ESS 0.500(50) (unreliable), ")
