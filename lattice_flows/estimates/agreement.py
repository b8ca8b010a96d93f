"""Whether all observables together agree with the closed forms: a chi^2 of those that do not determine one another."""

from collections.abc import Sequence

import numpy as np

from lattice_flows.estimates.replicas import are_same
from lattice_flows.statistics import chi_squared

_LEAST_P = 1e-4
_MOST_SHARED = 0.9  # of the variance; of what shares more, equal-time correlations do not give the small rest
_MOST_VALUES = 100_000  # of each series: correlations need no more


class Agreement:
    """Collects pulls of means that were measured on the same configurations, with the fluctuations of their series."""

    def __init__(self) -> None:
        self._rows: Sequence[np.ndarray] | None = None
        self._names: list[str] = []
        self._pulls: list[float] = []
        self._series: list[np.ndarray] = []

    def add(self, name: str, pull: float, chains: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> None:
        """chains: the series, or with weights w (O - <O>); rows: the numbers of the configurations.

        What was measured on other configurations than the first, and what never changes, is left out.
        """
        self._rows = self._rows or rows
        if not all(map(are_same, self._rows, rows)):
            return
        stride = -(-sum(map(len, rows)) // _MOST_VALUES)
        values = np.concatenate([chain[::stride] for chain in chains])
        if np.ptp(values) == 0:
            return
        self._names.append(name)
        self._pulls.append(pull)
        self._series.append(values)

    def warning(self) -> str | None:
        """Where the probability of so large a chi^2 is below 1e-4."""
        if len(self._names) < 2:
            return None
        correlation = np.corrcoef(self._series)
        chosen = independent(correlation)
        found = chi_squared(np.array(self._pulls)[chosen], correlation[np.ix_(chosen, chosen)])
        if found.p >= _LEAST_P:
            return None
        names = ", ".join(self._names[k] for k in chosen)
        return (
            f"{names}: chi^2 = {found.chi2:.0f} of {len(chosen)} independent values against the closed forms, p = "
            f"{found.p:.1g}: errors too small, or not in equilibrium; let it run longer, compare samplers"
        )


def independent(correlation: np.ndarray) -> list[int]:
    """The indices, in ascending order, of series that share at most 0.9 of their variance with those before them."""
    chosen: list[int] = []
    for k in range(len(correlation)):
        c = correlation[chosen, k]
        shared = float(c @ np.linalg.solve(correlation[np.ix_(chosen, chosen)], c)) if chosen else 0.0
        if shared <= _MOST_SHARED:
            chosen.append(k)
    return chosen
