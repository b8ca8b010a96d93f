"""Whether all observables together agree with the closed forms: a chi^2 of those that do not determine one another."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import f as f_distribution

from lattice_flows.estimates.replicas import are_same

_LEAST_P = 1e-4
_MOST_SHARED = 0.8  # of the variance of means; of what shares more, blocks do not give the small rest
_BLOCKS = 60  # of all chains together
_BLOCK_IN_TAU = 5  # shorter ones know each other


class Agreement:
    """Collects pulls of means that were measured on the same configurations, with the means of blocks of the chains.

    The correlation of means is that of the block means: at equal time slow modes have another share in it. It is known
    from n blocks alone, so that T^2 = d^T C^-1 d of k values is compared with an F distribution (H. Hotelling, Ann.
    Math. Stat. 2 (1931) 360) instead of chi^2.
    """

    def __init__(self) -> None:
        self._rows: Sequence[np.ndarray] | None = None
        self._names: list[str] = []
        self._pulls: list[float] = []
        self._means: list[np.ndarray] = []

    def add(
        self, name: str, pull: float, tau_int: float, chains: Sequence[np.ndarray], rows: Sequence[np.ndarray]
    ) -> None:
        """chains: the series, or with weights w (O - <O>); rows: the numbers of the configurations.

        What was measured on other configurations than the first, what never changes, and what is too slow for blocks
        that do not know each other, is left out.
        """
        self._rows = self._rows or rows
        n_blocks = -(-_BLOCKS // len(rows))
        size = min(map(len, rows)) // n_blocks
        if not all(map(are_same, self._rows, rows)) or size < max(1.0, _BLOCK_IN_TAU * tau_int):
            return
        means = np.concatenate([chain[: n_blocks * size].reshape(n_blocks, size).mean(axis=1) for chain in chains])
        if np.ptp(means) > 0:
            self._names.append(name)
            self._pulls.append(pull)
            self._means.append(means)

    def warning(self) -> str | None:
        """Where the probability of so large a T^2 is below 1e-4."""
        if len(self._names) < 2:
            return None
        correlation = np.corrcoef(self._means)
        chosen = independent(correlation)
        d, k, n = np.array(self._pulls)[chosen], len(chosen), len(self._means[0])
        t_squared = float(d @ np.linalg.solve(correlation[np.ix_(chosen, chosen)], d))
        p = float(f_distribution.sf(t_squared * (n - k) / (k * (n - 1)), k, n - k))
        if p >= _LEAST_P:
            return None
        names = ", ".join(self._names[i] for i in chosen)
        return (
            f"{names}: chi^2 = {t_squared:.0f} of {k} independent values against the closed forms, p = {p:.1g}: errors "
            "too small, or not in equilibrium; let it run longer, compare samplers"
        )


def independent(correlation: np.ndarray) -> list[int]:
    """The indices, in ascending order, of series that share at most 0.8 of their variance with those before them."""
    chosen: list[int] = []
    for k in range(len(correlation)):
        c = correlation[chosen, k]
        shared = float(c @ np.linalg.solve(correlation[np.ix_(chosen, chosen)], c)) if chosen else 0.0
        if shared <= _MOST_SHARED:
            chosen.append(k)
    return chosen
