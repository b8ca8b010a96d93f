"""The entries of summary.json, from open ensembles."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lattice_flows.card.build import closed_forms_of
from lattice_flows.estimates import chain_diagnostics
from lattice_flows.estimates.charge_sectors import topology_summary
from lattice_flows.estimates.observables import observables_summary
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.sign_sectors import signs_summary
from lattice_flows.estimates.summary_types import EnsembleSummary, FlowSummary, Integration, Observables, Summary
from lattice_flows.estimates.weights import round_trip_warnings, step_warnings, weights_summary, weights_warnings
from lattice_flows.outputs import SUMMARY, write_output
from lattice_flows.production.header_check import check_header
from lattice_flows.training.checkpoint import Checkpoint, n_parameters


def flow_samples_summary(samples: Replicas, checkpoint: Checkpoint) -> FlowSummary:
    """The summary of a flow's quality, from fresh samples of it; without "forward"."""
    weights = weights_summary(np.concatenate(samples.series("log_w")))
    sound = weights["log_z_reliable"]
    observables, warnings = observables_summary(samples, sound)
    if not sound:
        _distrust(observables)
    exact = closed_forms_of(samples.theory)
    steps = checkpoint.integration
    integration: Integration | None = None
    if steps:
        integration = {"n_steps": int(steps["n_steps"]), "step_error": steps["step_error"]}
    return {
        **weights,
        "warnings": [
            *_remarks(samples),
            *round_trip_warnings(checkpoint.round_trip),
            *step_warnings(integration),
            *weights_warnings(weights),
            *warnings,
        ],
        "round_trip": checkpoint.round_trip,
        "integration": integration,
        "log_z_exact": exact.log_z if exact else None,
        "train_seconds": checkpoint.train_seconds,
        "train_processes": checkpoint.processes,
        "n_steps": checkpoint.step,
        "n_parameters": n_parameters(checkpoint.average),
        "observables": observables,
        "topology": topology_summary(samples, observables),
        "signs": signs_summary(samples),
    }


def ensemble_summary(group: Replicas) -> EnsembleSummary:
    """The summary of one ensemble, or of the selected part of it."""
    whole = group if group.every == 1 else replace(group, every=1)
    reweighting, proposals = chain_diagnostics.reweighting(group), chain_diagnostics.proposals(group)
    sound, motion = not (reweighting.doubts or proposals.doubts), chain_diagnostics.slowest_motion(whole)
    observables, warnings = observables_summary(group, sound, not motion.frozen)
    of_all = observables if group.every == 1 else observables_summary(whole, sound)[0]
    round_trips = chain_diagnostics.round_trips(whole)
    rejections = chain_diagnostics.rejections(whole)
    acceptance = chain_diagnostics.acceptance(group)
    drift, short_build = chain_diagnostics.drift(group), chain_diagnostics.short_build(group)
    # One line for each cause: what holds frozen chains up, and a poor flow, which rejects for long.
    hold_up = (round_trips, acceptance) if proposals.warnings else (round_trips, rejections, acceptance)
    causes = [text for finding in hold_up for text in (*finding.doubts, *finding.warnings)]
    cost = chain_diagnostics.cost(whole, of_all, motion, causes)
    findings = (cost, drift, short_build, proposals, *(() if motion.frozen else (reweighting, *hold_up)))
    doubts = [text for finding in findings for text in finding.doubts]
    if doubts:  # every observable knows the charge, or whatever hardly moves, to some degree
        _distrust(observables)
    return {
        "files": group.file_names,
        "sampler": group.sampler["name"],
        "n_chains": group.n_chains,
        "n_configs": group.n_configs,
        "n_configs_of_longest": group.n_configs_of_longest,
        "seconds": group.core_seconds / group.threads or None,  # not known of an imported ensemble
        "threads": group.threads,
        **cost.figures,
        **reweighting.figures,
        **round_trips.figures,
        **rejections.figures,
        **acceptance.figures,
        **proposals.figures,
        "thermalisation_dropped": group.first,
        "every": group.every,
        "settings": group.sampler,
        "observables": observables,
        "topology": topology_summary(group, observables),
        "signs": signs_summary(group),
        "warnings": [
            *_remarks(group),
            *doubts,
            *warnings,
            *(text for finding in findings for text in finding.warnings),
        ],
    }


def _remarks(group: Replicas) -> list[str]:
    """What stands in the files that this version does not know, and series without estimates."""
    unknown = dict.fromkeys(text for file in group.files for text in check_header(file))
    return [*unknown, *(f"{name}: {told}: no estimate" for name, told in group.not_finite.items())]


def _distrust(observables: Observables) -> None:
    for row in observables.values():
        row["trusted"] = False


def write_summary(summary: Summary, path: Path) -> None:
    """Write the summary as JSON, replacing an earlier one atomically.

    Raises InputError if it cannot be written, or if there is a file that is no summary.
    """
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    write_output(path, text.encode(), SUMMARY)


def plain(summary: Summary) -> Summary:
    """The summary in JSON's types; undefined numbers are null."""
    return _plain(summary)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (np.integer, np.bool_)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
