"""Who wins: the cost of an independent configuration by observable, and the cheapest ensemble for each."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lattice_flows.estimates.summary_types import EnsembleSummary, ObservableRow
from lattice_flows.report.summary_lookups import label_of
from lattice_flows.theories.observable import Label

Ensembles = Mapping[str, EnsembleSummary]

_APART = 2.0  # errors by which costs differ that are told apart
_SAME = 1e-9


class Cost(NamedTuple):
    """Core seconds of an independent configuration, with the error that tau_int has."""

    seconds: float
    error: float
    trusted: bool  # whether the observable's own error can be trusted


class Winner(NamedTuple):
    """The cheapest ensemble for an observable, and the next one if there is any."""

    observable: str
    label: Label
    name: str
    cost: Cost
    next_name: str | None
    next_cost: Cost | None

    @property
    def ratio(self) -> float | None:
        """How much more the next one costs; None where the errors do not tell them apart, or it is alone."""
        if self.next_cost is None:
            return None
        error = math.hypot(self.cost.error, self.next_cost.error)
        apart = self.next_cost.seconds - self.cost.seconds > _APART * error
        return self.next_cost.seconds / self.cost.seconds if apart else None


def costs(ensembles: Ensembles) -> dict[str, dict[str, Cost]]:
    """The costs by observable and ensemble, of ensembles that are not frozen and whose time is known.

    Of observables with the same costs, as Q^2 and chi_top have, only the first is there.
    """
    found: dict[str, dict[str, Cost]] = {}
    for name, ensemble in ensembles.items():
        counted, each = ensemble["cost_observable"], ensemble["seconds_per_independent_config"]
        rows = ensemble["observables"]
        if counted is None or each is None or (n := rows[counted]["n_eff"]) is None:
            continue
        for observable, row in rows.items():
            if (n_eff := row["n_eff"]) is not None and n_eff > 0:
                found.setdefault(observable, {})[name] = _cost(each * n / n_eff, row)
    return _different(found)


def _cost(seconds: float, row: ObservableRow) -> Cost:
    tau_int, error = row["tau_int"], row["tau_int_error"]
    known = tau_int is not None and error is not None and tau_int > 0 and math.isfinite(error)
    return Cost(seconds, seconds * error / tau_int if known else math.inf, row["trusted"])  # type: ignore[operator]


def _different(found: dict[str, dict[str, Cost]]) -> dict[str, dict[str, Cost]]:
    kept: dict[str, dict[str, Cost]] = {}
    for observable, by_name in found.items():
        if not any(_equal(by_name, other) for other in kept.values()):
            kept[observable] = by_name
    return kept


def _equal(one: Mapping[str, Cost], other: Mapping[str, Cost]) -> bool:
    if one.keys() != other.keys():
        return False
    return all(math.isclose(one[name].seconds, other[name].seconds, rel_tol=_SAME) for name in one)


def winners(ensembles: Ensembles) -> Sequence[Winner]:
    """The cheapest ensemble for each observable; none where there is only one ensemble to choose from.

    A cost whose error cannot be trusted does not win.
    """
    if len(ensembles) < 2:
        return []
    found = []
    for observable, by_name in costs(ensembles).items():
        ranked = sorted((cost, name) for name, cost in by_name.items() if cost.trusted)
        if ranked:
            (cost, name), *others = ranked
            label = label_of(ensembles[name]["observables"], observable)
            found.append(Winner(observable, label, name, cost, *(others[0][::-1] if others else (None, None))))
    return found
