"""Numbers as text: values with errors, pulls, ESS."""

import math
from decimal import Decimal

_SMALL, _LARGE = 1e-4, 1e7  # numbers outside are written with a power of ten
_ENOUGH_FOR_A_BARE_ESS = 1000  # samples
_ROUNDING = 1e-14  # an error below this fraction of its value is rounding


def with_error(value: float | None, error: float | None) -> str:
    """A value to two digits of its error: 0.69778(12), or 4.5(1.2) with the point in both if the error exceeds one.

    Very small and very large numbers are followed by a power of ten, 1.234(12)e-07. An error of zero is (0), an
    infinite one (inf). Without an error the value stands alone; without a value the text is '-'.
    """
    if value is None or error is None or not math.isfinite(value) or math.isnan(error):
        return number(value, 6)
    if math.isinf(error):
        return f"{number(value, 6)}(inf)"
    if error <= _ROUNDING * abs(value):
        return f"{float(f'{value:.6g}')}(0)"
    scale = max(abs(value), error)
    power = _exponent(scale, max(1, _exponent(scale, 1) - _exponent(error, 2) + 2))
    if _SMALL <= 10.0**power < _LARGE:
        return _rounded(Decimal(value), Decimal(error))
    return f"{_rounded(Decimal(value).scaleb(-power), Decimal(error).scaleb(-power))}e{power:+03d}"


def _rounded(value: Decimal, error: Decimal) -> str:
    """Value and error as text, both rounded to the second digit of the error."""
    decimals = 1 - _exponent(error, 2)
    if decimals <= 0:  # the error is 10 or more: its digits stand before the point
        return f"{round(value, decimals):z.0f}({round(error, decimals):.0f})"
    shown = f"{error:.{decimals}f}"
    return f"{value:z.{decimals}f}({shown if decimals == 1 else shown[-2:]})"


def _exponent(x: float | Decimal, digits: int) -> int:
    """The power of ten of x > 0 after rounding to `digits` significant digits."""
    return int(f"{x:.{digits - 1}e}".split("e")[1])


def number(value: float | None, digits: int = 3) -> str:
    """A number to at least `digits` significant digits, with all digits before the point; '-' for None and nan."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value) or value == 0:
        return f"{value:.0f}"
    if not _SMALL <= abs(value) < _LARGE:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - _exponent(abs(value), digits))}f}"


def pull(value: float | None) -> str:
    """A difference in units of its error, such as +1.3."""
    return "-" if value is None else f"{value:+z.1f}"


def ess(value: float | None, error: float | None, n_samples: float, reliable: bool = True) -> str:
    """An ESS with its error; "at most" the value where the error is not reliable.

    Without an error: the value alone if it comes from 1,000 samples or more, else '-'.
    """
    if value is not None and not reliable:
        return f"at most {number(value, 3)}"
    if value is None or error is None or math.isnan(error):
        return number(value, 2) if n_samples >= _ENOUGH_FOR_A_BARE_ESS else "-"
    return with_error(value, error)
