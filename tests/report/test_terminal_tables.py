"""Numbers and tables for people: every digit shown is meant, and nothing is cut off."""

import io
import math

import pytest
from rich.console import Console

from lattice_flows.report import terminal_tables

pytestmark = pytest.mark.quick

NAN, INF = math.nan, math.inf


def _row(value: float, error: float | None, tau_int: float | None = 57.3, label: str = "") -> dict:
    return {"value": value, "error": error, "exact": 0.0193640, "pull": -123.4, "tau_int": tau_int,
            "tau_int_error": tau_int and 12.1, "window": 5, "n_eff": 1234567.0, "r_hat": 1.0791,
            "trusted": False, "label": dict.fromkeys(("plain", "page", "tex"), label)}  # fmt: skip


def _ensemble(cost: float | None, bound: float | None = None, **changes: object) -> dict:
    names = {"plaquette": "plaquette", "topological_charge_squared": "Q^2", "topological_susceptibility": "chi_top",
             "wilson_loop_12x12": "W(12x12)"}  # fmt: skip
    ensemble = {"sampler": "flow_metropolis", "n_chains": 128, "n_configs": 1000000,
                "n_configs_of_longest": 1000000, "acceptance_rate": 0.01923, "seconds": 12345.6, "threads": 1,
                "frozen": bound is not None, "seconds_per_independent_config": cost,
                "seconds_per_independent_config_at_least": bound, "warnings": [],
                "cost_observable": "topological_charge_squared",
                "observables": {name: _row(-0.0212742, 0.0021366, label=short)
                                for name, short in names.items()}}  # fmt: skip
    return ensemble | changes


def _printed(table: object, width: int) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None).print(table)
    return buffer.getvalue()


@pytest.mark.parametrize("width", [100, 120])
def test_tables_cut_nothing_off(width: int):
    ensembles = {"second_campaign/flow_metropolis_long_name": _ensemble(0.000123), "hmc": _ensemble(None, 234.5)}
    observables = _printed(terminal_tables.observables_table(ensembles), width)
    samplers = _printed(terminal_tables.samplers_table(ensembles), width)
    assert "…" not in observables + samplers
    for ensemble in ensembles.values():
        for row in terminal_tables.observable_rows(ensemble["observables"]):
            assert all(cell in observables for cell in row)
        assert all(cell in samplers for cell in terminal_tables.sampler_row(ensemble)[1:])
    assert "> 234500" in samplers


def test_a_frozen_ensemble_is_a_bound_never_a_value():
    assert terminal_tables.milliseconds_per_config(_ensemble(None, 0.5)) == "> 500"
    assert terminal_tables.milliseconds_per_config(_ensemble(0.5)) == "500"
    assert terminal_tables.milliseconds_per_config(_ensemble(None)) == "-"


def test_a_cost_is_marked_where_its_error_is_not_trusted():
    ensemble = _ensemble(0.5)
    assert terminal_tables.sampler_row(ensemble)[-1] == "500 !"
    ensemble["observables"]["topological_charge_squared"]["trusted"] = True
    assert terminal_tables.sampler_row(ensemble)[-1] == "500"
    assert terminal_tables.sampler_row(_ensemble(None, 0.5))[-1] == "> 500"  # a bound needs no error


@pytest.mark.parametrize(("every", "words"), [(2, "second"), (3, "third"), (4, "4th"), (11, "11th"), (21, "21st")])
def test_thinning_is_told_in_words_with_its_cost(every, words):
    ensemble = _ensemble(0.5, thermalisation_dropped=0, every=every)
    (line,) = terminal_tables.selections({"ensembles": {"hmc": ensemble}})
    assert line == f"hmc: every {words} configuration kept (the cost is that of all)"


def test_files_that_were_read_together_are_told():
    ensembles = {
        "one": _ensemble(0.5, files=["hmc.h5"]),
        "two": _ensemble(0.5, files=["A/hmc.h5", "B/hmc.h5"]),
        "many": _ensemble(0.5, files=[f"hmc.{k}.h5" for k in range(100)]),
    }
    assert terminal_tables.merged({"ensembles": ensembles}) == [
        "two: 2 files, their chains together: A/hmc.h5, B/hmc.h5",
        f"many: 100 files, their chains together: {', '.join(f'hmc.{k}.h5' for k in range(7))}, ..., hmc.99.h5",
    ]


def test_cheapest_first():
    ensembles = {
        "unknown": _ensemble(None),
        "frozen": _ensemble(None, 1e-9),
        "slow": _ensemble(2.0),
        "fast": _ensemble(1e-5),
    }
    assert [name for name, _ in terminal_tables.cheapest_first(ensembles)] == ["fast", "slow", "frozen", "unknown"]


def test_warnings_name_their_source():
    """An ensemble may be called flow, too."""
    summary = {"flow": {"warnings": ["one"]}, "ensembles": {"flow": _ensemble(1.0, warnings=["two", "three"])}}
    assert terminal_tables.warnings(summary) == ["trained flow: one", "flow: two", "flow: three"]
    assert terminal_tables.warnings({"flow": None, "ensembles": {}}) == []
