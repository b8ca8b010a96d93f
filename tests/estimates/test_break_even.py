"""When a training has paid, by the costs of all ensembles."""

import pytest

from lattice_flows.estimates.break_even import break_evens
from lattice_flows.report.terminal_tables import break_even, samplers_table

pytestmark = pytest.mark.quick


def ensemble(sampler, cost, frozen=False, **settings):
    """A part of a summary; the cost of a frozen one is a bound."""
    return {
        "sampler": sampler,
        "settings": settings,
        "frozen": frozen,
        "seconds_per_independent_config": None if frozen else cost,
        **({"seconds_per_independent_config_at_least": cost} if frozen else {}),
    }


FLOW = {"train_seconds": 30.0, "train_processes": 2}


def test_a_training_pays_after_its_seconds_over_the_gain():
    ensembles = {
        "flow": ensemble("flow_metropolis", 0.01),
        "slow": ensemble("hmc", 1.0),
        "best": ensemble("heatbath", 0.02),
        "poor": ensemble("flow_metropolis", 0.03),
    }
    found = break_evens(ensembles, FLOW)
    assert set(found) == {"flow", "poor"}
    assert found["flow"] == {"against": "best", "configs": pytest.approx(60.0 / 0.01), "at_most": False}
    assert found["poor"]["configs"] is None
    told = {name: break_even({**one, **({"break_even": found[name]} if name in found else {})})
            for name, one in ensembles.items()}  # fmt: skip
    assert told == {"flow": "6000", "slow": "-", "best": "-", "poor": "never"}


def test_a_frozen_sampler_gives_a_bound():
    ensembles = {"flow": ensemble("flow_metropolis", 0.01), "hmc": ensemble("hmc", 100.0, frozen=True)}
    found = break_evens(ensembles, FLOW)
    assert found["flow"]["at_most"]
    assert break_even({**ensembles["flow"], "break_even": found["flow"]}) == "< 0.60"
    cheap = {**ensembles, "hmc": ensemble("hmc", 0.001, frozen=True)}
    (unknown,) = break_evens(cheap, FLOW).values()
    assert break_even({"break_even": unknown}) == "-"


def test_nothing_is_said_without_another_sampler():
    assert break_evens({"flow": ensemble("flow_metropolis", 0.01)}, FLOW) == {}
    assert break_evens({"hmc": ensemble("hmc", 0.01)}, FLOW) == {}


def test_the_table_of_the_terminal_has_the_column_where_it_says_something():
    rows = {"n_chains": 1, "n_configs": 5, "n_configs_of_longest": 5, "acceptance_rate": 0.5, "seconds": 1.0,
            "cost_observable": None, "observables": {}}  # fmt: skip
    plain = {"hmc": {**ensemble("hmc", 1.0), **rows}}
    assert len(samplers_table(plain).columns) == 7
    flow = {
        **ensemble("flow_metropolis", 0.01),
        **rows,
        "break_even": {"against": "hmc", "configs": 61.0, "at_most": False},
    }
    table = samplers_table({**plain, "flow": flow})
    assert [str(cell) for cell in table.columns[-1].cells] == ["61", "-"]
