"""The Ising model on a few sites, summed over all configurations: written from the definition of the action."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class EnumeratedIsing:
    """Expectation values at coupling beta on a torus of this shape, for some twenty sites at most."""

    beta: float
    shape: tuple[int, int]

    @property
    def n_sites(self):
        return math.prod(self.shape)

    @cached_property
    def spins(self):
        """All configurations, (2^V, L0, L1)."""
        bits = np.arange(2**self.n_sites)[:, None] >> np.arange(self.n_sites) & 1
        return (2 * bits - 1).astype(np.int8).reshape(-1, *self.shape)

    @cached_property
    def energies(self):
        """e of each, from every site to its neighbours ahead."""
        ahead = [np.take(self.spins, np.arange(1, n + 1) % n, axis) for axis, n in enumerate(self.shape, 1)]
        return -sum((self.spins * other).sum((1, 2), dtype=float) for other in ahead) / self.n_sites

    @cached_property
    def probabilities(self):
        weights = np.exp(-self.beta * self.n_sites * (self.energies - self.energies.min()))
        return weights / weights.sum()

    @property
    def log_z(self):
        lowest = self.energies.min()
        weights = np.exp(-self.beta * self.n_sites * (self.energies - lowest))
        return math.log(weights.sum()) - self.beta * self.n_sites * lowest

    @property
    def energy(self):
        return float(self.probabilities @ self.energies)

    @property
    def specific_heat(self):
        variance = self.probabilities @ (self.energies - self.energy) ** 2
        return float(self.beta**2 * self.n_sites * variance)

    def _moment(self, function):
        return float(self.probabilities @ function(self.spins.mean((1, 2))))

    @property
    def abs_magnetisation(self):
        return self._moment(np.abs)

    @property
    def susceptibility(self):
        return self.n_sites * self._moment(np.square)

    @property
    def connected_susceptibility(self):
        return self.susceptibility - self.n_sites * self.abs_magnetisation**2

    @property
    def binder_cumulant(self):
        return 1.0 - self._moment(lambda m: m**4) / (3.0 * self._moment(np.square) ** 2)

    @property
    def lowest_mode_squared(self):
        modes = np.abs(np.fft.fft2(self.spins)) ** 2 / self.n_sites
        return float(self.probabilities @ (0.5 * (modes[:, 1, 0] + modes[:, 0, 1])))

    @property
    def second_moment_correlation_length(self):
        ratio = self.susceptibility / self.lowest_mode_squared
        return math.sqrt(ratio - 1.0) / (2.0 * math.sin(math.pi / self.shape[0])) if ratio >= 1.0 else math.nan
