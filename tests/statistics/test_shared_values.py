"""Values that two chains have in common."""

import numpy as np

from lattice_flows.statistics.shared_values import shared_values


def test_parts_of_one_chain_are_found_and_independent_chains_are_not(rng):
    chains = [rng.normal(size=500) for _ in range(6)]
    assert shared_values(chains) is None
    for other in (chains[2][:77], chains[2][50:], chains[2][::-1], np.repeat(chains[2], 2), np.roll(chains[2], 5)):
        assert shared_values([*chains, other]) == (2, 6)
    assert shared_values([*chains, np.append(chains[2][:2], rng.normal(size=400))]) == (2, 6)


def test_a_common_start_that_is_rejected_for_a_while_is_none(rng):
    chains = [np.concatenate([np.full(7, 0.5), rng.normal(size=100)]) for _ in range(4)]
    assert shared_values(chains) is None
    assert shared_values([np.zeros(50), np.zeros(50)]) is None
