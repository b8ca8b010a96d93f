"""Values that are no numbers, named by their configuration and chain."""

import numpy as np

from lattice_flows.ensembles.ensemble import Ensemble

_MAY_BE_INFINITE = ("log_w", "delta_h")  # a weight of 0, and a trajectory that is refused


def not_finite(ensemble: Ensemble) -> list[str]:
    """A line for every series and all proposals of the ensemble that hold values that are infinite or no number."""
    found = []
    for name in ensemble.series_names:
        told = where_not_finite(name, ensemble.series(name), ensemble.series_configs(name), ensemble.first_chain)
        found += [f"the series {name} {told}"] if told else []
    for name in ensemble.proposal_names:
        values = ensemble.proposals(name)
        told = where_not_finite(name, values, np.arange(len(values)), ensemble.first_chain, "proposal")
        found += [f"{name} of the proposals {told}"] if told else []
    return found


def where_not_finite(
    name: str, values: np.ndarray, numbers: np.ndarray, first_chain: int, what: str = "configuration"
) -> str:
    """Where a series (n, B) of this name, of the configurations `numbers` (n,), is infinite or no number; "" if it is
    not.

    The series log_w and delta_h, also those of parts, may be infinite.
    """
    bad = np.isnan(values) if name.startswith(_MAY_BE_INFINITE) else ~np.isfinite(values)
    if not bad.any():
        return ""
    row, column = np.unravel_index(int(bad.argmax()), bad.shape)
    place = f"is {values[row, column]} in {what} {numbers[row]} of chain {first_chain + column}"
    others = int(bad.sum()) - 1
    return place + (f", and not finite in {others} other place{'s' if others > 1 else ''}" if others else "")
