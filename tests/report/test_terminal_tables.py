"""Numbers and tables for people: every digit shown is meant, and nothing is cut off."""

import io
import math
from decimal import Decimal

import numpy as np
import pytest
from rich.console import Console

from lattice_flows.report import terminal_tables
from lattice_flows.terminal import labels, numbers

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.697775, 0.000123, "0.69778(12)"),
        (4.5321, 1.2345, "4.5(1.2)"),
        (123.4, 15.2, "123(15)"),
        (1234.5, 2.0, "1234.5(2.0)"),
        (-75.48, 0.21, "-75.48(21)"),
        (0.5, 1e-9, "0.5000000000(10)"),
        # the error rounds up to another power of ten
        (0.12345, 0.0996, "0.12(10)"),
        (4.5321, 0.996, "4.5(1.0)"),
        (123.4, 9.96, "123(10)"),
        (123.4, 99.6, "120(100)"),
        (0.3, 0.0952, "0.300(95)"),
        # errors beyond the point, and beyond the value
        (12345.0, 1234.0, "12300(1200)"),
        (3.0, 150.0, "0(150)"),
        (0.001, 0.5, "0.00(50)"),
        (-0.3, 0.95, "-0.30(95)"),
        (-0.00003, 0.012, "0.000(12)"),  # no minus before a zero
        # powers of ten
        (1.2345e-7, 1.2e-9, "1.235(12)e-07"),
        (1.2e-9, 3.3e-7, "0.0(3.3)e-07"),
        (1.2345e8, 1200.0, "1.234500(12)e+08"),
        (9.9996e-5, 1e-6, "0.0001000(10)"),
        (9.9999999e-8, 1.2e-9, "1.000(12)e-07"),
        (1e300, 1e298, "1.000(10)e+300"),
        (5e-324, 5e-324, "4.9(4.9)e-324"),
        # no error, or none that means anything
        (0.0, 0.0, "0.0(0)"),
        (2.0, 0.0, "2.0(0)"),
        (0.697775, 1e-17, "0.697775(0)"),
        (1.5, None, "1.50000"),
        (1.5, NAN, "1.50000"),
        (1.5, INF, "1.50000(inf)"),
        (None, None, "-"),
        (None, 0.1, "-"),
        (NAN, 0.1, "-"),
        (INF, 0.1, "inf"),
    ],
)
def test_with_error(value: float | None, error: float | None, text: str):
    assert numbers.with_error(value, error) == text


def test_with_error_reads_back(rng: np.random.Generator):
    """What is shown is within half a last digit of what is meant, whatever the magnitudes."""
    for _ in range(2000):
        value = float(rng.normal() * 10.0 ** rng.uniform(-12, 12))
        error = float(rng.uniform(1, 10) * 10.0 ** rng.uniform(-8, 3)) * abs(value)
        shown, shown_error, digit = _read(numbers.with_error(value, error))
        assert abs(Decimal(value) - shown) <= digit / 2 * Decimal("1.000001"), (value, error)
        assert abs(Decimal(error) - shown_error) <= digit / 2 * Decimal("1.000001"), (value, error)
        assert 10 <= round(shown_error / digit) <= 99, (value, error)


def _read(text: str) -> tuple[Decimal, Decimal, Decimal]:
    """Value, error and the worth of the error's second digit."""
    value, _, rest = text.partition("(")
    error, _, exponent = rest.partition(")")
    power = Decimal(10) ** int(exponent[1:] or 0)
    decimals = len(value.partition(".")[2])
    unit = Decimal(10) ** -decimals
    shown = Decimal(error) if "." in error else Decimal(error) * unit
    digit = unit if decimals else Decimal(10) ** (len(error) - 2)
    return Decimal(value) * power, shown * power, digit * power


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (10751.44, 3, "10751"),
        (117.103, 3, "117"),
        (0.0192, 3, "0.0192"),
        (0.99996, 3, "1.00"),
        (99.96, 3, "100"),
        (-3.2, 3, "-3.20"),
        (5.52329e-5, 3, "5.52e-05"),
        (2.5e9, 2, "2.5e+09"),
        (0.0, 6, "0"),
        (0.6977746580, 6, "0.697775"),
        (INF, 3, "inf"),
        (NAN, 3, "-"),
        (None, 3, "-"),
    ],
)
def test_number(value: float | None, digits: int, text: str):
    assert numbers.number(value, digits) == text


@pytest.mark.parametrize(("value", "text"), [(1.26, "+1.3"), (-45.36, "-45.4"), (-0.01, "+0.0"), (None, "-")])
def test_pull(value: float | None, text: str):
    assert numbers.pull(value) == text


@pytest.mark.parametrize(
    ("name", "plain", "page"),
    [
        ("plaquette", "plaquette", "plaquette"),
        ("topological_charge_squared", "Q^2", "Q²"),
        ("wilson_loop_12x3", "W(12x3)", "W(12×3)"),
        ("polyakov_correlator_1_4", "P_1(4)", "P_1(4)"),
        ("something_else", "something_else", "something_else"),
    ],
)
def test_label(name: str, plain: str, page: str):
    assert labels.label(name)[:2] == (plain, page)


def test_labels_are_distinct():
    names = ["plaquette", "topological_charge", "topological_charge_squared", "topological_susceptibility"]
    names += [f"wilson_loop_{r}x{t}" for r in (1, 2, 11) for t in (1, 2, 11)]
    for kind in range(3):
        assert len({labels.label(name)[kind] for name in names}) == len(names)


def _row(value: float, error: float | None, tau_int: float | None = 57.3) -> dict:
    return {"value": value, "error": error, "exact": 0.0193640, "pull": -123.4, "tau_int": tau_int,
            "tau_int_error": tau_int and 12.1, "window": 5, "n_eff": 1234567.0, "r_hat": 1.0791,
            "trusted": False}  # fmt: skip


def _ensemble(cost: float | None, bound: float | None = None, **changes: object) -> dict:
    names = ("plaquette", "topological_charge_squared", "topological_susceptibility", "wilson_loop_12x12")
    ensemble = {"sampler": "flow_metropolis", "n_chains": 128, "n_configs": 1000000,
                "n_configs_of_longest": 1000000, "acceptance_rate": 0.01923, "seconds": 12345.6, "threads": 1,
                "frozen": bound is not None, "seconds_per_independent_config": cost,
                "seconds_per_independent_config_at_least": bound, "warnings": [],
                "cost_observable": "topological_charge_squared",
                "observables": {name: _row(-0.0212742, 0.0021366) for name in names}}  # fmt: skip
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
    assert "> 234" in samplers or "> 235" in samplers


def test_a_frozen_ensemble_is_a_bound_never_a_value():
    assert terminal_tables.seconds_per_config(_ensemble(None, 0.5)) == "> 0.500"
    assert terminal_tables.seconds_per_config(_ensemble(0.5)) == "0.500"
    assert terminal_tables.seconds_per_config(_ensemble(None)) == "-"


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
