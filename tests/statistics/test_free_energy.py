"""log Z over a ladder of couplings, against closed forms."""

import numpy as np
import pytest

from lattice_flows.kernels.random import make_streams
from lattice_flows.statistics import log_z_differences
from lattice_flows.theories import ExactU1, WilsonU1, sample_u1

BETAS = (1.0, 1.4, 1.9, 2.5)


def energies(seed, betas=BETAS):
    """sum (1 - cos P) of independent configurations on 6x6, two chains of each coupling, one of them shorter."""
    chains = []
    for k, beta in enumerate(betas):
        links, _ = sample_u1(beta, 6, 6, make_streams(seed, f"coupling {k}", range(12_000)))
        energy = WilsonU1(1.0).evaluate(links)
        chains.append([energy[:8000], energy[8000:]])
    return chains


def pulls(seed, betas):
    found = log_z_differences(energies(seed), betas)
    exact = [ExactU1(beta, 36).log_z - ExactU1(BETAS[0], 36).log_z for beta in BETAS[1:]]
    return [(value - right) / error for (value, error), right in zip(found, exact)]


def test_it_agrees_with_the_closed_form(seed):
    assert max(map(abs, pulls(seed, BETAS))) < 4.5


def test_couplings_one_per_cent_off_are_noticed(seed):
    assert max(map(abs, pulls(seed, [1.01 * beta for beta in BETAS]))) > 6


def test_chains_without_a_coupling_are_refused():
    chain = np.arange(40.0)
    with pytest.raises(ValueError, match="two couplings or more"):
        log_z_differences([chain], [1.0])
    with pytest.raises(ValueError, match="got 2 for 3"):
        log_z_differences([chain, chain], [1.0, 2.0, 3.0])
