"""Who wins at which observable: told apart by errors, never by a frozen or untrusted ensemble."""

import pytest

from lattice_flows.report import terminal_tables
from lattice_flows.report.cost_figures import cost_plots
from lattice_flows.report.costs import costs, winners

pytestmark = pytest.mark.quick


def row(n_eff, tau_int=2.0, error=0.1, trusted=True):
    return {"n_eff": n_eff, "tau_int": tau_int, "tau_int_error": error, "trusted": trusted}


def ensemble(seconds, rows, frozen=False):
    """One that took so many core seconds."""
    each = None if frozen else seconds / rows["q2"]["n_eff"]
    return {"observables": rows, "cost_observable": "q2", "seconds_per_independent_config": each, "frozen": frozen}


SLOW = ensemble(10.0, {"q2": row(100.0), "plaquette": row(2000.0)})
FAST = ensemble(10.0, {"q2": row(1000.0), "plaquette": row(1900.0)})


def test_each_observable_has_its_winner():
    q2, plaquette = winners({"slow": SLOW, "fast": FAST})
    assert (q2.name, q2.next_name) == ("fast", "slow")
    assert q2.ratio == pytest.approx(10.0)
    assert q2.cost.seconds == pytest.approx(0.01)
    assert q2.cost.error == pytest.approx(0.01 * 0.05)
    assert (plaquette.name, plaquette.next_name) == ("slow", "fast")
    assert plaquette.ratio is None  # 5 % apart, with errors of 5 % each
    assert terminal_tables.winner_row(plaquette)[-1] == "="
    assert terminal_tables.winner_row(q2) == ("fast", "10.00(50)", "slow", "100.0(5.0)", "10")


def test_what_cannot_be_trusted_does_not_win():
    doubtful = ensemble(1.0, {"q2": row(1e6, trusted=False), "plaquette": row(1.0)})
    found = {one.observable: one for one in winners({"slow": SLOW, "doubtful": doubtful})}
    assert (found["q2"].name, found["q2"].next_name, found["q2"].ratio) == ("slow", None, None)
    assert terminal_tables.winner_row(found["q2"])[2:] == ("-", "-", "-")


def test_a_frozen_ensemble_has_no_cost():
    frozen = ensemble(1.0, {"q2": row(1e6)}, frozen=True)
    assert [one.name for one in winners({"frozen": frozen, "slow": SLOW})] == ["slow", "slow"]


def test_equal_costs_are_there_once():
    twice = {name: {**one, "observables": {**one["observables"], "chi": one["observables"]["q2"]}}
             for name, one in {"slow": SLOW, "fast": FAST}.items()}  # fmt: skip
    assert list(costs(twice)) == ["q2", "plaquette"]


def test_one_ensemble_wins_nothing():
    assert not winners({"slow": SLOW})
    assert terminal_tables.winners_table({"slow": SLOW}) is None
    assert cost_plots({"ensembles": {"slow": SLOW}}) == []


def test_the_figure_holds_every_cost():
    (plot,) = cost_plots({"ensembles": {"slow": SLOW, "fast": FAST}})
    assert len(plot.data.rows) == 4
    assert ("q2", "fast", pytest.approx(10.0), pytest.approx(0.5), "yes") in plot.data.rows
    assert "q2: fast" in plot.alternative
