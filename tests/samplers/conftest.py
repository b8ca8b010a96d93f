"""Running a sampler and holding it against the closed forms."""

from collections.abc import Iterator

import numpy as np
import pytest
import scipy.stats
from equilibrium import equilibrium

from lattice_flows.kernels.random import make_streams
from lattice_flows.theories import Quantity

_MOST_CHARGE = 8


def started(sampler, action, shape, n_chains, seed, name="test"):
    """A state in equilibrium."""
    return sampler.init(*equilibrium(action, shape, make_streams(seed, name, range(n_chains))))


def produced(sampler, action, state, n_configs, n_updates, shape):
    """The standard series of a run, with those of the sampler, and its weights, each (n, B)."""
    x, log_w, infos = [], [], []
    for _ in range(n_configs):
        state, info = sampler.step(state, n_updates)
        x.append(state.x)
        infos.append(info)
        log_w.append(info.log_w if sampler.weighted else np.zeros(len(state.x)))  # a flow chain's are for its proposals
    fields, weights = np.stack(x), np.exp(np.stack(log_w) - np.max(log_w))  # (n, B, *event), (n, B)
    flat = fields.reshape(-1, *fields.shape[2:])
    per_chain = [name for name, values in zip(infos[0]._fields, infos[0]) if values.shape == state.x.shape[:1]]
    own = {name: np.stack([getattr(info, name) for info in infos]) for name in per_chain}
    series = {one.name: one(flat).reshape(fields.shape[:2]) for one in action.observables(shape)}
    return {**own, **series}, weights


def measured(series, weights, action, shape, oracle, n_particles=1) -> Iterator[tuple[Quantity, float, float]]:
    """Every standard quantity that the oracle knows, with its value and error.

    The error is the jackknife's over the chains, which start independently and in equilibrium: it is right however
    slowly a chain moves, where the Gamma method would not know the error of a frozen charge. n_particles consecutive
    chains are one population, and only these are independent.
    """
    observables = action.observables(shape)
    for quantity in [quantity for observable in observables for quantity in observable.quantities(shape)]:
        known = quantity.exact is not None and quantity.exact(oracle) is not None
        if known and all(term.series in series for term in quantity.terms):
            terms = np.stack([weights * term.transform(series[term.series]) for term in quantity.terms])
            sums, of_weights = in_sets(terms.sum(1), n_particles), in_sets(weights.sum(0), n_particles)
            yield quantity, *jackknife(quantity.function or (lambda mean: mean), sums, of_weights)


def in_sets(values, n_particles):
    """The sums (..., n_sets) over sets of consecutive chains of values (..., B)."""
    return values.reshape(*values.shape[:-1], values.shape[-1] // n_particles, n_particles).sum(axis=-1)


def deviate_of_charges(charge, weights, exact, n_particles=1) -> float:
    """How far P(Q) is from the closed form, as the normal deviate of its p-value: Hotelling's T^2 over the chains.

    charge and weights (n, B), exact the oracle. For each Q that some five chains would start in, w (1_Q - P(Q)) has the
    mean zero in every chain; the chains are independent, and the spread of their sums knows the autocorrelation.
    """
    n_chains = charge.shape[1] // n_particles
    values = np.arange(-_MOST_CHARGE, _MOST_CHARGE + 1)
    known = exact.charge_distribution(_MOST_CHARGE)
    seen = known * n_chains > 5.0
    if (1.0 - known[seen].sum()) * n_chains < 5.0:  # the bins almost determine one another
        seen[np.flatnonzero(seen)[-1]] = False
    hits = np.rint(charge)[..., None] == values[seen]  # (n, B, bins)
    of_chains = (weights[..., None] * (hits - known[seen])).sum(axis=0)  # (B, bins)
    sums = in_sets(of_chains.T, n_particles).T
    n_bins = sums.shape[1]
    if n_bins == 0:
        return 0.0
    covariance = np.atleast_2d(np.cov(sums.T))
    t_squared = n_chains * sums.mean(axis=0) @ np.linalg.solve(covariance, sums.mean(axis=0))
    p = scipy.stats.f.sf(t_squared * (n_chains - n_bins) / (n_bins * (n_chains - 1)), n_bins, n_chains - n_bins)
    return float(scipy.stats.norm.isf(max(p, 1e-300)))


def jackknife(function, sums, weights) -> tuple[float, float]:
    """function(<a>, <b>, ...) and its error, from each chain's weighted sums (n_terms, B) and weights (B,)."""
    whole = function(*map(float, sums.sum(1) / weights.sum()))
    without = (sums.sum(1, keepdims=True) - sums) / (weights.sum() - weights)  # (n_terms, B)
    values = np.array([function(*map(float, means)) for means in without.T])
    return whole, float(np.sqrt((values.size - 1) * values.var()))


@pytest.fixture
def pulls():
    """Pulls of a sampler's estimates from the oracle, by the quantity's name.

    It is that of the closed forms of `action` where it is not given, and the action that of the sampler.
    """

    def measure(sampler, shape, n_chains, n_configs, n_updates, seed, action=None, start=None, oracle=None):
        action = action or sampler.action
        state = started(sampler, start or action, shape, n_chains, seed)
        oracle = oracle or action.closed_forms(shape)
        found, n_particles = {}, sampler.chains_per_set if sampler.populations else 1
        series, weights = produced(sampler, action, state, n_configs, n_updates, shape)
        for quantity, value, error in measured(series, weights, action, shape, oracle, n_particles):
            difference = value - quantity.exact(oracle)
            if error < 1e-12:  # the charge of a 2x2 lattice at large beta, a loop that covers it all
                assert abs(difference) < 1e-9, quantity.name
                continue
            found[quantity.name] = difference / error
        if "topological_charge" in series:
            found["P(Q)"] = deviate_of_charges(series["topological_charge"], weights, oracle, n_particles)
        return found

    return measure
