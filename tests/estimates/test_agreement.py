"""The chi^2 of all observables against the closed forms: neither a false alarm nor a sum of small errors missed."""

import numpy as np
import pytest
from scipy.signal import lfilter

from lattice_flows.estimates.agreement import Agreement, independent
from lattice_flows.statistics import gamma_method, pull

pytestmark = pytest.mark.quick

N_OBSERVABLES, N, REPEATS = 6, 1500, 300


def correlated(rng):
    """Series of N_OBSERVABLES, of variance 1 and an autocorrelation each, of which neighbours share a part."""
    noise = rng.standard_normal((N_OBSERVABLES + 1, N))
    noise[:, 1:] += 0.4 * noise[:, :-1]
    return (noise[1:] + 0.5 * noise[:-1]) / np.sqrt(1.25 * 1.16)


def agreement_of(series, shift=0.0):
    """shift: of each mean from the known one, zero, in units of its error."""
    found = Agreement()
    rows = [np.arange(series.shape[1])]
    for k, values in enumerate(series):
        estimate = gamma_method(values)
        off = pull(estimate.value, estimate.error, 0.0) + shift
        found.add(f"o{k}", off, estimate.tau_int, [values], rows)
    return found


def test_correlated_observables_are_not_an_alarm_and_errors_too_small_are(rng):
    alarms = [agreement_of(correlated(rng)).warning() for _ in range(REPEATS)]
    assert sum(alarm is not None for alarm in alarms) <= 2
    planted = [agreement_of(correlated(rng), shift=4.5 * (-1) ** k).warning() for k in range(40)]
    assert sum(alarm is not None for alarm in planted) > 36
    text = next(filter(None, planted))
    assert text.startswith("o0, o1, ")
    assert f"of {N_OBSERVABLES} independent values" in text


def test_a_slow_mode_in_one_of_two_is_no_alarm(rng):
    """At equal time both share nine tenths of their variance, and their means hardly any."""
    alarms = 0
    for _ in range(150):
        fast = rng.standard_normal(12_000)
        slow = lfilter([np.sqrt(1 - 0.935**2)], [1.0, -0.935], rng.standard_normal(12_000))  # tau_int = 15
        alarms += agreement_of(np.array([fast, fast + 0.35 * slow])).warning() is not None
    assert alarms <= 1


def test_what_the_others_determine_is_left_out(rng):
    series = rng.standard_normal((3, N))
    both = series[0] + series[1]
    assert independent(np.corrcoef([series[0], -16 * series[0], series[1], both, series[2]])) == [0, 2, 4]
    found = agreement_of(np.array([series[0], -16 * series[0]]), shift=4.2)  # one value, 4.2 errors off
    assert found.warning() is None


def test_what_never_changes_or_was_measured_elsewhere_is_left_out(rng):
    found = agreement_of(rng.standard_normal((2, N)))
    found.add("constant", 9.0, 0.5, [np.ones(N)], [np.arange(N)])
    found.add("rarely", 9.0, 0.5, [rng.standard_normal(N // 2)], [np.arange(0, N, 2)])
    found.add("slow", 9.0, 50.0, [rng.standard_normal(N)], [np.arange(N)])
    assert found.warning() is None
    assert Agreement().warning() is None
