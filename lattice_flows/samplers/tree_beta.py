"""Tuning of the coupling of an exact tree."""

from collections.abc import Callable

import numpy as np

from lattice_flows.flows.conditioners import MAX_BETA
from lattice_flows.flows.plaquette_action import stiffness
from lattice_flows.samplers.sampler import Report
from lattice_flows.theories.action import Action

_LEAST_BETA = 0.1  # around which trees are tried, where the action is flat
_TRIED = 1.1 ** np.arange(-10, 5)  # tree_beta in units of the stiffness, from wide to narrow
_TOLERANCE = 0.01  # of the acceptance


def tuned_tree_beta(action: Action, acceptance: Callable[[float], float], report: Report) -> float:
    """The widest tree whose acceptance is within 0.01 of the largest, from trials of trees around the stiffness."""
    centre = max(stiffness(action), _LEAST_BETA)
    tried: dict[float, float] = {}
    for beta in (min(float(f"{centre * factor:.3g}"), MAX_BETA) for factor in _TRIED):
        report(f"tree_beta = {beta:.3g}")
        tried[beta] = acceptance(beta)
    return min(beta for beta in tried if tried[beta] > max(tried.values()) - _TOLERANCE)
