"""The number of leapfrog steps at a fixed trajectory length."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erfcinv

if TYPE_CHECKING:
    from lattice_flows.samplers.hmc import HMC, HMCState

_ROUNDS = 8
_N_MAX = 2000


def tuned_n_md_steps(sampler: HMC, state: HMCState, n_updates: int) -> int:
    """The smallest n_md_steps that reaches the sampler's target acceptance, as far as n_updates trajectories tell.

    The mean acceptance is erfc(sqrt(<delta_h>)/2) and <delta_h> falls like step_size^4 (Creutz 1988; Gupta et al.,
    Phys. Lett. B 242 (1990) 437), so each round rescales the step by what it measured, and the chains thermalise on.
    Half of the updates only thermalise. The result depends on the state's streams alone.
    """
    n_md_steps = 10
    per_round = max(1, n_updates // (2 * _ROUNDS))
    target = erfcinv(sampler.target_acceptance)
    for _ in range(_ROUNDS):
        trial = replace(sampler, n_md_steps=n_md_steps)
        state, _ = trial.step(state, per_round)
        accepted = []
        for _ in range(per_round):
            state, info = trial.step(state)
            accepted.append(np.exp(-np.maximum(np.nan_to_num(info.delta_h, nan=np.inf), 0.0)))
        measured = erfcinv(np.clip(np.mean(accepted), 0.02, 0.998))
        ratio = np.clip(np.sqrt(measured / target), 0.5, 2.0)
        n_md_steps = int(np.clip(np.ceil(n_md_steps * ratio - 0.05), 1, _N_MAX))
    return n_md_steps
