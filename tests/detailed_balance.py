"""Whether updates are in detailed balance: in equilibrium f(x) g(y) and g(x) f(y) have one mean, y updated from x."""

import numpy as np
import torch
from equilibrium import equilibrium

from lattice_flows.kernels.random import make_streams

_SHIFT = 0.7


def asymmetry(sampler, shape, n_chains, n_updates, seed, reversed_=None):
    """The largest deviation of E[f(x) g(x')] - E[g(x) f(x')] from zero, in errors, over a few pairs of functions.

    The second mean is that of the sampler `reversed_`, where it is given, whose chains are others.
    """
    if reversed_ is not None:
        one, other = (products(one, shape, n_chains, n_updates, seed + k) for k, one in enumerate((sampler, reversed_)))
        differences = [(one[a, b] - other[b, a]) for a, b in one]
        return max(abs(d.mean()) / (d.std(ddof=1) / np.sqrt(n_chains)) for d in differences)
    both = products(sampler, shape, n_chains, n_updates, seed)
    sums = [both[a, b] - both[b, a] for a, b in both if a < b]
    return max((abs(d.mean()) / (d.std(ddof=1) / np.sqrt(n_chains)) for d in sums if d.any()), default=0.0)


def products(sampler, shape, n_chains, n_updates, seed):
    """f(x) g(x') of each chain, summed over the updates, for a few pairs of functions, by their numbers."""
    action = sampler.action
    n_variables = int(np.prod(action.event_shape(shape)))
    pairs = {(0, 1), (0, n_variables // 2)}
    # A first update: a sampler of independent configurations has none of its own before.
    state, _ = sampler.step(sampler.init(*equilibrium(action, shape, make_streams(seed, "test", range(n_chains)))))
    sums = {order: np.zeros(n_chains) for pair in pairs for order in (pair, pair[::-1])}
    for _ in range(n_updates):
        later, _ = sampler.step(state)
        for a, b in pairs:
            before, after = ([_local(action, x, k) for k in (a, b)] for x in (state.x, later.x))
            sums[a, b] += before[0] * after[1]
            sums[b, a] += before[1] * after[0]
        state = later
    return sums


def _local(action, x, k):
    """A function of the surroundings of variable k: what S gains by a change of it. Bounded, and gauge invariant."""
    moved = x.copy()
    of_k = moved.reshape(len(x), -1)[:, k]  # a view
    of_k[:] = -of_k if action.space.tangent_shape is None else of_k + _SHIFT
    moved = action.space.wrap(torch.from_numpy(moved)).numpy()
    return np.tanh(action.evaluate(moved) - action.evaluate(x))
