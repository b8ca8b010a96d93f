"""From ensemble files to the numbers of summary.json."""

import json
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lattice_flows.card.build import oracle
from lattice_flows.card.card import Card
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError, unwritable
from lattice_flows.estimates import chain_diagnostics
from lattice_flows.estimates.charge_sectors import topology_summary
from lattice_flows.estimates.mode_collapse import forward_summary
from lattice_flows.estimates.observables import observables_summary
from lattice_flows.estimates.of_run import array_warnings, check_theory, open_run_ensembles
from lattice_flows.estimates.replicas import Replicas, grouped, open_replicas
from lattice_flows.estimates.selection import EVERYTHING, Selection
from lattice_flows.estimates.sign_sectors import signs_summary
from lattice_flows.estimates.weights import weights_summary
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.training import CHECKPOINT_NAME, read_checkpoint

Summary = dict[str, Any]


def analyse_run(folder: RunFolder, card: Card, selection: Selection = EVERYTHING) -> Summary:
    """The summary of a run: its flow, and those of its ensembles that hold anything, of what is selected of them.

    Raises InputError where there is nothing to analyse, EnsembleError for a broken file.
    """
    flow = flow_summary(folder, card) if card.flow is not None and _is_evaluated(folder) else None
    with ExitStack() as stack:
        groups = {group.name: selection.of(group) for group in open_run_ensembles(folder, card, stack)}
        if not groups and flow is None:
            raise InputError(f"{folder.path}: holds no ensembles yet; run or sample first")
        ensembles = {name: ensemble_summary(group) for name, group in groups.items()}
        for name, ensemble in ensembles.items():
            ensemble["warnings"][:0] = array_warnings(groups[name], card.ensemble(name))
        theory = _theory(groups.values(), card.theory.as_dict())
        if flow is not None and theory == card.theory.as_dict():
            flow |= forward_summary(folder, card, [(group, ensembles[name]) for name, group in groups.items()], flow)
    return _plain({"theory": theory, "flow": flow, "ensembles": ensembles})


def _theory(groups: Iterable[Replicas], otherwise: dict[str, Any]) -> dict[str, Any]:
    """The [theory] table that the averages of these groups are of."""
    return next((group.theory for group in groups), otherwise)


def analyse_files(paths: Sequence[Path], selection: Selection = EVERYTHING) -> Summary:
    """The summary of ensemble files, of one theory, of what is selected of them.

    Raises InputError and EnsembleError as `open_replicas` does.
    """
    with ExitStack() as stack:
        files = [_begun(path, stack) for path in paths]
        groups = [selection.of(group) for group in grouped(files)]
        summary = {group.name: ensemble_summary(group) for group in groups}
        return _plain({"theory": groups[0].theory, "flow": None, "ensembles": summary})


def _begun(path: Path, stack: ExitStack) -> Ensemble:
    """The file, open. Raises InputError where it holds no configurations."""
    file = stack.enter_context(Ensemble.open(path)) if Ensemble.exists(path) else None
    if file is None or file.n_configs == 0:
        raise InputError(f"{path}: there is no such ensemble, or it is still thermalising")
    return file


def _is_evaluated(folder: RunFolder) -> bool:
    """Whether there are fresh samples of the trained flow."""
    if not Ensemble.exists(folder.evaluation):
        return False
    with Ensemble.open(folder.evaluation) as samples:
        return samples.n_configs > 0


def flow_summary(folder: RunFolder, card: Card) -> Summary:
    """How good the flow is, from fresh samples."""
    checkpoint = read_checkpoint(folder.flow / CHECKPOINT_NAME)
    with ExitStack() as stack:
        (samples,) = open_replicas([folder.evaluation], stack)
        check_theory(samples, card)
        weights = weights_summary(np.concatenate(samples.series("log_w")))
        observables, warnings = observables_summary(samples)
        if not weights["reliable"]:
            _distrust(observables)
        topology, signs = topology_summary(samples, observables), signs_summary(samples)
    exact = oracle(card.theory.as_dict())
    return {
        **weights,
        "log_z_exact": exact.log_z if exact else None,
        "train_seconds": checkpoint.train_seconds,
        "train_processes": checkpoint.processes,
        "n_steps": checkpoint.step,
        "n_parameters": sum(weight.numel() for weight in checkpoint.average.values()),
        "observables": observables,
        "topology": topology,  # of the samples, with their weights: what the flow knows of each sector
        "signs": signs,
        "warnings": weights["warnings"] + warnings,
    }


def ensemble_summary(group: Replicas) -> Summary:
    """The figures of one ensemble, or of what is selected of it."""
    whole = group if group.every == 1 else replace(group, every=1)
    observables, warnings = observables_summary(group)
    of_all = observables if group.every == 1 else observables_summary(whole)[0]
    findings = (
        chain_diagnostics.motion_and_cost(whole, of_all),
        chain_diagnostics.reweighting(group),
        chain_diagnostics.drift(group),
        chain_diagnostics.round_trips(whole),
        chain_diagnostics.short_build(group),
        chain_diagnostics.rejections(whole),
        chain_diagnostics.acceptance(group),
        chain_diagnostics.proposals(group),
    )
    doubts = [text for finding in findings for text in finding.doubts]
    if doubts:  # every observable knows the charge, or whatever hardly moves, to some degree
        _distrust(observables)
    figures = {key: value for finding in findings for key, value in finding.figures.items()}
    return {
        "sampler": group.sampler["name"],
        "n_chains": group.n_chains,
        "n_configs": group.n_configs,
        "n_configs_of_longest": group.n_configs_of_longest,
        "seconds": group.core_seconds / group.threads or None,  # not known of an imported ensemble
        "threads": group.threads,
        **figures,
        "thermalisation_dropped": group.first,
        "every": group.every,
        "settings": group.sampler,
        "observables": observables,
        "topology": topology_summary(group, observables),
        "signs": signs_summary(group),
        "warnings": [*doubts, *warnings, *(text for finding in findings for text in finding.warnings)],
    }


def _distrust(observables: Summary) -> None:
    for row in observables.values():
        row["trusted"] = False


def write_summary(summary: Summary, path: Path) -> None:
    """Write it as JSON, replacing what was there at once. Raises InputError where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from None


def _plain(value: Any) -> Any:
    """The value in JSON's types; what is undefined is null."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (np.integer, np.bool_)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
