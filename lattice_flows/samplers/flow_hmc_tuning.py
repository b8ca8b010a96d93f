"""Tuning of flow-HMC: whether, and how hard, a force is to kick."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lattice_flows.samplers.lengths import Series, cost_of, measured_by
from lattice_flows.samplers.sampler import Array, Report

if TYPE_CHECKING:
    from lattice_flows.samplers.flow_hmc import FlowHMC, FlowHMCState

_CLIPS = (0.2, 1.0)
_DRIFTS = (1.0, 2.0, 4.0, 8.0)  # lengths without a force
_MOST_STEPS = 64
_FORWARD, _GRADIENT = 1.0, 3.0  # passes of the flow: of a test, and of a force
_BETTER = 0.85  # of the cost: pilots know it to some 20 %
_INDEPENDENT = 0.5  # tau_int of independent configurations


def tuned_flow_hmc(sampler: "FlowHMC", state: "FlowHMCState", n_updates: int, report: Report) -> "FlowHMC":
    """The sampler at the settings with the smallest cost * tau_int of the slowest standard observable of x.

    On trial are the force and the clip that the card leaves open, each with its mean length and number of steps: first
    none, whose trajectory costs one pass of the flow, then the others (a force costs three), as far as they could be
    cheaper if their configurations were independent. Steps are doubled while that saves 15 %. Acceptance needs no
    target: what rejects moves slowly.
    """
    measure = measured_by(sampler.action, state.x.shape[1:])
    best, least = None, np.inf
    for trials in _families(sampler):
        family = np.inf
        for trial, cost in trials:
            if _INDEPENDENT * cost >= _BETTER * least:
                break
            series, state = _pilot(trial, state, n_updates, measure, report)
            found = cost_of(series, cost)
            if best is None or found < _BETTER * least:
                best, least = trial, found
            if found >= _BETTER * family:
                break
            family = found
    assert best is not None
    return best


def _families(sampler: "FlowHMC") -> Iterator[Iterator[tuple["FlowHMC", float]]]:
    """Series of trials, each with the cost of a trajectory, that are gone through as long as they get better."""
    forces = ("none", "clipped", "full") if sampler.force is None else (sampler.force,)
    for force in forces:
        if force == "none":
            yield _drifts(sampler)
            continue
        given = force == "full" or sampler.clip is not None
        for clip in (sampler.clip,) if given else _CLIPS:
            lengths = (1.0, 4.0) if sampler.trajectory_length is None else (sampler.trajectory_length,)
            for length in lengths:
                yield _kicked(sampler, force, clip, length)


def _drifts(sampler: "FlowHMC") -> Iterator[tuple["FlowHMC", float]]:
    for length in _DRIFTS if sampler.trajectory_length is None else (sampler.trajectory_length,):
        yield _trial(sampler, "none", None, length, 1), _FORWARD


def _kicked(sampler: "FlowHMC", force: str, clip: float | None, length: float) -> Iterator[tuple["FlowHMC", float]]:
    n_md_steps = 1 if sampler.n_md_steps is None else sampler.n_md_steps
    while n_md_steps <= _MOST_STEPS:
        yield _trial(sampler, force, clip, length, n_md_steps), _FORWARD + _GRADIENT * n_md_steps
        if sampler.n_md_steps is not None:
            return
        n_md_steps *= 2


def _trial(sampler: "FlowHMC", force: str, clip: float | None, length: float, n_md_steps: int) -> "FlowHMC":
    settings: dict[str, Any] = {"force": force, "trajectory_length": length, "n_md_steps": n_md_steps}
    return replace(sampler, **settings, clip=clip)


def _pilot(
    trial: "FlowHMC", state: "FlowHMCState", n_updates: int, measure: Any, report: Report
) -> tuple[Series, "FlowHMCState"]:
    """The series (n, B) of the theory's standard observables and the action, and the chains that gave them."""
    rows: list[list[Array]] = []
    for k in range(n_updates + n_updates // 8):
        state, _ = trial.step(state)
        report(f"force = {trial.force}, n_md_steps = {trial.n_md_steps}")
        if k >= n_updates // 8:
            rows.append(measure(state.x))
    return list(np.array(rows).transpose(1, 0, 2)), state
