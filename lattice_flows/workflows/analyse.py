"""From ensemble files to the numbers of summary.json."""

import json
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lattice_flows.ensembles import Ensemble
from lattice_flows.training import CHECKPOINT_NAME, read_checkpoint
from lattice_flows.workflows import conduct
from lattice_flows.workflows.assemble import oracle
from lattice_flows.workflows.card import Card
from lattice_flows.workflows.errors import InputError, unwritable
from lattice_flows.workflows.estimates import observables_summary
from lattice_flows.workflows.folder import RunFolder
from lattice_flows.workflows.forward import forward_summary
from lattice_flows.workflows.replicas import Replicas, open_replicas
from lattice_flows.workflows.selection import EVERYTHING, Selection
from lattice_flows.workflows.signs import signs_summary
from lattice_flows.workflows.topology import topology_summary
from lattice_flows.workflows.weights import weights_summary

Summary = dict[str, Any]


def analyse_run(folder: RunFolder, card: Card, selection: Selection = EVERYTHING) -> Summary:
    """The summary of a run: its flow, and those of its ensembles that hold anything, of what is selected of them.

    Raises InputError where there is nothing to analyse, EnsembleError for a broken file.
    """
    paths = [folder.ensemble(table.name) for table in card.ensembles]
    paths = [path for path in paths if _holds_configurations(path)]
    flow = flow_summary(folder, card) if card.flow is not None and _holds_configurations(folder.evaluation) else None
    if not paths and flow is None:
        raise InputError(f"{folder.path}: holds no ensembles yet; run or sample first")
    with ExitStack() as stack:
        opened = {path.stem: open_replicas([path], stack)[0] for path in paths}
        for name, group in opened.items():
            _check_theory(group, card)
            if group.name != name:
                raise InputError(
                    f"{folder.ensemble(name)}: holds the ensemble {group.name!r}; put it back to its place"
                )
        groups = {name: selection.of(group) for name, group in opened.items()}
        ensembles = {name: ensemble_summary(group) for name, group in groups.items()}
        theory = _theory(groups.values(), card.theory.as_dict())
        if flow is not None and theory == card.theory.as_dict():
            flow |= forward_summary(folder, card, [(group, ensembles[name]) for name, group in groups.items()], flow)
    return _plain({"theory": theory, "flow": flow, "ensembles": ensembles})


def _theory(groups: Iterable[Replicas], otherwise: dict[str, Any]) -> dict[str, Any]:
    """The [theory] table that the averages of these groups are of."""
    return next((group.theory for group in groups), otherwise)


def _holds_configurations(path: Path) -> bool:
    """Whether the ensemble is begun and past its thermalisation."""
    if not Ensemble.exists(path):
        return False
    with Ensemble.open(path) as ensemble:
        return ensemble.n_configs > 0


def analyse_files(paths: Sequence[Path], selection: Selection = EVERYTHING) -> Summary:
    """The summary of ensemble files, of one theory, of what is selected of them.

    Raises InputError and EnsembleError as `open_replicas` does.
    """
    for path in paths:
        if not _holds_configurations(path):
            raise InputError(f"{path}: there is no such ensemble, or it is still thermalising")
    with ExitStack() as stack:
        groups = [selection.of(group) for group in open_replicas(paths, stack)]
        summary = {group.name: ensemble_summary(group) for group in groups}
        return _plain({"theory": groups[0].theory, "flow": None, "ensembles": summary})


def _check_theory(group: Replicas, card: Card) -> None:
    """Raises InputError where a file of the run's folder is not of the card's theory."""
    if group.sampled_theory != card.theory.as_dict():
        raise InputError(
            f"{group.files[0].path}: was made for the theory {group.sampled_theory}, "
            f"the run's card has {card.theory.as_dict()}"
        )


def flow_summary(folder: RunFolder, card: Card) -> Summary:
    """How good the flow is, from fresh samples."""
    checkpoint = read_checkpoint(folder.flow / CHECKPOINT_NAME)
    with ExitStack() as stack:
        (samples,) = open_replicas([folder.evaluation], stack)
        _check_theory(samples, card)
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
        "n_steps": checkpoint.step,
        "n_parameters": sum(weight.numel() for weight in checkpoint.average.values()),
        "observables": observables,
        "topology": topology,  # of the samples, with their weights: what the flow knows of each sector
        "signs": signs,
        "warnings": weights["warnings"] + warnings,
    }


def ensemble_summary(group: Replicas) -> Summary:
    """The figures of one ensemble, or of what is selected of it."""
    whole = replace(group, every=1)
    observables, warnings = observables_summary(group)
    of_all = observables if group.every == 1 else observables_summary(whole)[0]
    findings = (
        conduct.motion_and_cost(whole, of_all),
        conduct.reweighting(group),
        conduct.drift(group),
        conduct.round_trips(whole),
        conduct.short_build(group),
        conduct.rejections(whole),
        conduct.acceptance(group),
        conduct.proposals(group),
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
        "seconds": sum(file.seconds for file in group.files) or None,  # not known of an imported ensemble
        "threads": int(group.files[0].attributes["threads"]),
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
