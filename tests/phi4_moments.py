"""Moments of small phi^4 lattices: measured along chains, and exact by transfer matrix or closed form."""

import numpy as np
from phi4_chain import Phi4Chain

from lattice_flows.kernels.random import make_streams, normals
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import FreeField


def moments(phi):
    """The means over the lattice of phi^2, phi^4 and phi(x) phi(x+mu), (3, B)."""
    axes = tuple(range(1, phi.ndim))
    link = np.mean([phi * np.roll(phi, -1, mu) for mu in axes], axis=0)
    return np.stack([values.mean(axis=axes) for values in (phi**2, phi**4, link)])


def exact_moments(shape, hop, quad, quart):
    """Of a ring of any length, of (2, 2), and of every lattice at quart = 0."""
    if quart == 0.0:
        free = FreeField(quad / hop - 2 * len(shape), shape, hop)
        return np.array([free.phi_squared, 3.0 * free.phi_squared**2, free.link_energy])
    if shape == (2, 2):  # a ring of four sites, whose every link counts twice
        shape, hop = (4,), 2.0 * hop
    (n_sites,) = shape
    chain = Phi4Chain(hop, quad, quart, n_sites)
    return np.array([chain.moment(2), chain.moment(4), chain.two_point(1)])


def hot_start(shape, n_chains, seed, name="test"):
    noise, streams = normals(make_streams(seed, name, range(n_chains)), int(np.prod(shape)))
    return noise.reshape(n_chains, *shape), streams


def estimated_moments(update, phi, streams, n_configs, n_thermalisation=40):
    """The three estimates along chains; update(phi, streams) returns the next ones."""
    series = []
    for n in range(n_thermalisation + n_configs):
        phi, streams = update(phi, streams)
        if n >= n_thermalisation:
            series.append(moments(phi))
    return [gamma_method(values) for values in np.stack(series, axis=1)]  # (3, n_configs, B)


def pulls(estimates, expected):
    return np.array([(one.value - value) / one.error for one, value in zip(estimates, expected, strict=True)])


def differences(estimates, others):
    """Pulls between two independent sets of estimates."""
    return np.array([(a.value - b.value) / np.hypot(a.error, b.error) for a, b in zip(estimates, others, strict=True)])
