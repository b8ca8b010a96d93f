"""The search for n_md_steps where the target acceptance is out of reach."""

import numpy as np
import pytest

from lattice_flows.samplers.tuning import tuned_n_md_steps

pytestmark = pytest.mark.quick


def test_where_more_steps_do_not_help_few_are_taken_and_both_figures_told(caplog):
    """As with a force that no step resolves: delta_h is what it is for any number of steps."""
    found = tuned_n_md_steps(lambda n, m: np.full((m, 4), 2.0), 0.8, 160)
    assert found <= 10
    (record,) = caplog.records
    assert f"n_md_steps = {found} accepts 0.14 and 256 accepts 0.14" in record.getMessage()


def test_a_target_within_reach_is_met_without_a_word(caplog, rng):
    """<delta_h> falls like n^-4, with the variance that <exp(-delta_h)> = 1 asks for."""

    def delta_h(n, m):
        mean = (12.0 / n) ** 4 * 0.13
        return mean + np.sqrt(2.0 * mean) * rng.standard_normal((m, 64))

    assert 10 <= tuned_n_md_steps(delta_h, 0.8, 320) <= 14
    assert caplog.records == []
