"""Numbers as text: every digit shown is meant."""

import math
from decimal import Decimal

import numpy as np
import pytest

from lattice_flows.terminal import numbers

pytestmark = pytest.mark.quick

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
