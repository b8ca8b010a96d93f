"""Running a sampler and holding it against the closed forms."""

from collections.abc import Iterator

import numpy as np
import pytest

from lattice_flows.exact import ExactU1, sample_u1
from lattice_flows.kernels.random import make_streams
from lattice_flows.observables import STANDARD
from lattice_flows.statistics import Estimate, gamma_method, reweighted


def started(sampler, shape, beta, n_chains, seed, name="test"):
    """A state in equilibrium: the start is drawn directly, so that nothing needs to be thermalised."""
    x, streams = sample_u1(beta, *shape, make_streams(seed, name, range(n_chains)))
    return sampler.init(x, streams)


def estimates(sampler, state, n_configs, n_updates, shape) -> Iterator[tuple[str, Estimate]]:
    """The estimate of every standard quantity."""
    x, log_w = [], []
    for _ in range(n_configs):
        state, info = sampler.step(state, n_updates)
        x.append(state.x)
        log_w.append(getattr(info, "log_w", None))
    fields = np.stack(x)  # (n, B, 2, L0, L1)
    flat = fields.reshape(-1, *fields.shape[2:])
    for observable in STANDARD["u1"]:
        series = observable(flat).reshape(fields.shape[:2])
        for quantity in observable.quantities(shape):
            values = quantity.transform(series)
            weighted = getattr(sampler, "weighted", False)
            yield quantity, reweighted(values, np.stack(log_w)) if weighted else gamma_method(values)


@pytest.fixture
def pulls():
    """Pulls of a sampler's estimates from the closed forms at beta, by the quantity's name."""

    def measure(sampler, shape, beta, n_chains, n_configs, n_updates, seed, start_beta=None):
        state = started(sampler, shape, start_beta or beta, n_chains, seed)
        oracle = ExactU1(beta, shape[0] * shape[1])
        found = {}
        for quantity, estimate in estimates(sampler, state, n_configs, n_updates, shape):
            if quantity.exact is None:
                continue
            difference = estimate.value - quantity.exact(oracle)
            if estimate.error < 1e-12:  # the charge of a 2x2 lattice at large beta, a loop that covers it all
                assert abs(difference) < 1e-9, quantity.name
                continue
            found[quantity.name] = difference / estimate.error
        return found

    return measure
