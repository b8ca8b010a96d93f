"""Running a sampler and holding it against the closed forms."""

from collections.abc import Iterator

import numpy as np
import pytest

from lattice_flows.kernels.random import make_streams
from lattice_flows.observables import STANDARD, Quantity


def started(sampler, action, shape, n_chains, seed, name="test"):
    """A state in equilibrium: the start is drawn directly, so that nothing needs to be thermalised."""
    draw = action.direct_sampler()
    x, streams = draw(action.event_shape(shape), make_streams(seed, name, range(n_chains)))
    return sampler.init(x, streams)


def measured(sampler, action, state, n_configs, n_updates, shape) -> Iterator[tuple[Quantity, float, float]]:
    """Every standard quantity that has a closed form, with its value and error.

    The error is the jackknife's over the chains, which start independently and in equilibrium: it is right however
    slowly a chain moves, where the Gamma method would not know the error of a frozen charge.
    """
    x, log_w = [], []
    for _ in range(n_configs):
        state, info = sampler.step(state, n_updates)
        x.append(state.x)
        log_w.append(getattr(info, "log_w", np.zeros(len(state.x))))
    fields, weights = np.stack(x), np.exp(np.stack(log_w) - np.max(log_w))  # (n, B, *event), (n, B)
    flat = fields.reshape(-1, *fields.shape[2:])
    observables = STANDARD[action.space.name](shape)
    series = {observable.name: observable(flat).reshape(fields.shape[:2]) for observable in observables}
    for quantity in [quantity for observable in observables for quantity in observable.quantities(shape)]:
        if quantity.exact is not None and all(term.series in series for term in quantity.terms):
            terms = np.stack([weights * term.transform(series[term.series]) for term in quantity.terms])
            yield quantity, *jackknife(quantity.function or (lambda mean: mean), terms.sum(1), weights.sum(0))


def jackknife(function, sums, weights) -> tuple[float, float]:
    """function(<a>, <b>, ...) and its error, from each chain's weighted sums (n_terms, B) and weights (B,)."""
    whole = function(*map(float, sums.sum(1) / weights.sum()))
    without = (sums.sum(1, keepdims=True) - sums) / (weights.sum() - weights)  # (n_terms, B)
    values = np.array([function(*map(float, means)) for means in without.T])
    return whole, float(np.sqrt((values.size - 1) * values.var()))


@pytest.fixture
def pulls():
    """Pulls of a sampler's estimates from the closed forms of `action` (its own if absent), by the quantity's name."""

    def measure(sampler, shape, n_chains, n_configs, n_updates, seed, action=None, start=None):
        action = action or sampler.action
        state = started(sampler, start or action, shape, n_chains, seed)
        oracle = action.exact(shape)
        found = {}
        for quantity, value, error in measured(sampler, action, state, n_configs, n_updates, shape):
            difference = value - quantity.exact(oracle)
            if error < 1e-12:  # the charge of a 2x2 lattice at large beta, a loop that covers it all
                assert abs(difference) < 1e-9, quantity.name
                continue
            found[quantity.name] = difference / error
        return found

    return measure
