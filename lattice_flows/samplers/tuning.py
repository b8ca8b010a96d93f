"""Tuning of the number of integrator steps at a fixed trajectory length, and of the width of a change."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import erfcinv

from lattice_flows.samplers.sampler import Array, Report

_ROUNDS = 16
_WARMING = 8  # times as many steps where a chain may come from a hot start
_N_MAX = 256  # a flow or an action that needs more is not worth sampling this way
_REACHED = 0.75  # of the target acceptance

_log = logging.getLogger(__name__)


def warming(n_md_steps: int | None) -> int | None:
    """A number of steps with which trajectories from a hot start are accepted as well; None if it is not set yet."""
    return None if n_md_steps is None else _WARMING * n_md_steps


def tuned_n_md_steps(
    delta_h: Callable[[int, int], Array], target_acceptance: float, n_updates: int, order: int = 2
) -> int:
    """The smallest n_md_steps up to 256 that reaches the target acceptance, estimated from 2 n_updates trajectories.

    delta_h(n_md_steps, n) makes n trajectories that only thermalise the chains and n more, whose delta_h it returns.
    The mean acceptance is erfc(sqrt(<delta_h>)/2) and <delta_h> falls like step_size^(2 order) (Creutz 1988; Gupta et
    al., Phys. Lett. B 242 (1990) 437), so each round rescales the step by its measurement. The chains may come from a
    hot start, where delta_h is far below zero and every trajectory is accepted although the integrator fails: the first
    rounds then raise n_md_steps by the size of delta_h, the chains thermalise, and later rounds lower it again.

    Near the limit of stability delta_h falls much faster than its power, and the rule alone would jump back and forth
    over the answer: the second half of the rounds stays between the largest number that failed and the smallest that
    passed.

    Where the target is out of reach, more steps do not help: then it is the number that accepted most for its cost, and
    a warning.
    """
    n_md_steps, failed, passed = 10, 0, _N_MAX
    tried: dict[int, float] = {}
    per_round = max(1, n_updates // _ROUNDS)
    target = erfcinv(target_acceptance)
    for k in range(_ROUNDS):
        acceptance = tried[n_md_steps] = _acceptance(np.nan_to_num(delta_h(n_md_steps, per_round), nan=np.inf))
        ratio = (erfcinv(np.clip(acceptance, 0.02, 0.998)) / target) ** (1.0 / order)
        # Rounding up by more than 0.05 of a step only: 4.02 is 4.
        wanted = int(np.clip(np.ceil(n_md_steps * np.clip(ratio, 0.5, 2.0) - 0.05), 1, _N_MAX))
        if k >= _ROUNDS // 2:
            failed = max(failed, n_md_steps) if wanted > n_md_steps else failed
            passed = min(passed, n_md_steps) if wanted <= n_md_steps else passed
            wanted = min(max(wanted, failed + 1), max(passed, failed + 1), _N_MAX)
        n_md_steps = wanted
    most = max(tried)
    if n_md_steps < _N_MAX or tried[most] > _REACHED * target_acceptance:
        return n_md_steps
    best = max(tried, key=lambda n: tried[n] / n)
    _log.warning(
        "n_md_steps = %d accepts %.2g and %d accepts %.2g of the trajectories, where %.2g were asked for: more steps "
        "do not help; take another sampler, or a smoother flow",
        best,
        tried[best],
        most,
        tried[most],
        target_acceptance,
    )
    return best


def tuned_width(
    step: Callable[[Any, float, int], tuple[Any, Array]],
    state: Any,
    widest: float,
    target_acceptance: float,
    n_updates: int,
    report: Report,
) -> float:
    """The width of a change, up to `widest`, that reaches the target acceptance, found in n_updates updates.

    step(state, width, n) makes n updates and returns the new state and the accepted fraction of each chain.
    """
    width, per_round = min(1.0, widest), max(1, n_updates // _ROUNDS)
    for _ in range(_ROUNDS):
        report(f"width = {width:.3g}")
        state, accepted = step(state, width, per_round)
        ratio = accepted.mean() / max(target_acceptance, 1e-300)
        width = float(min(widest, width * np.clip(ratio, 0.5, 2.0)))
    return width


def _acceptance(delta_h: Array) -> float:
    """The mean of min(1, exp(-delta_h)), or less if the size of delta_h suggests a lower acceptance in equilibrium."""
    measured = np.exp(-np.maximum(delta_h, 0.0)).mean()
    expected = 1.0 - 0.5 * (1.0 - np.exp(-np.abs(delta_h)).mean())
    return float(min(measured, expected))
