"""From ensemble files to the numbers of summary.json."""

import json
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lattice_flows.ensembles import Ensemble
from lattice_flows.statistics import (
    MIN_CHANGES,
    count_changes,
    count_crossings,
    effective_sample_size,
    is_reliable,
    largest_weight_share,
    log_partition,
    pareto_k,
)
from lattice_flows.training import CHECKPOINT_NAME, read_checkpoint
from lattice_flows.workflows.assemble import oracle
from lattice_flows.workflows.card import Card
from lattice_flows.workflows.errors import InputError, unwritable
from lattice_flows.workflows.estimates import observables_summary
from lattice_flows.workflows.folder import RunFolder
from lattice_flows.workflows.forward import forward_summary
from lattice_flows.workflows.replicas import LOG_W, Replicas, open_replicas
from lattice_flows.workflows.selection import EVERYTHING, Selection
from lattice_flows.workflows.topology import topology_summary

_LOW_ACCEPTANCE = 0.1
_FEWEST_DEPOSITS = 1000
_FEWEST_CONFIGS = 4
_LONG_RUN = 0.05  # a run of rejections over so much of a chain says that the flow misses a region
_CHARGE = "topological_charge"
_CHARGE_SQUARED = "topological_charge_squared"

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
            flow |= forward_summary(folder, card, groups.values(), flow)
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
    exact = oracle(card.theory.as_dict())
    return {
        **weights,
        "log_z_exact": exact.log_z if exact else None,
        "train_seconds": checkpoint.train_seconds,
        "n_steps": checkpoint.step,
        "n_parameters": sum(weight.numel() for weight in checkpoint.average.values()),
        "observables": observables,
        "warnings": weights["warnings"] + warnings,
    }


def weights_summary(log_w: np.ndarray) -> Summary:
    """ESS, log Z and how far to trust them, from weights of independent samples (m,); not-a-number counts as zero."""
    log_w = np.nan_to_num(log_w, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    ess, log_z = effective_sample_size(log_w), log_partition(log_w)
    reliable = is_reliable(log_w)
    k = pareto_k(log_w)
    text = f"weights are unreliable: ESS * N = {ess.value * log_w.size:.0f}, Pareto k-hat = {k:.2f}"
    return {
        "ess": ess.value,
        "ess_error": ess.error,
        "log_z": log_z.value,
        "log_z_error": log_z.error,
        "n_samples": log_w.size,
        "pareto_k": k,
        "largest_weight_share": largest_weight_share(log_w),
        "reliable": reliable,
        "warnings": [] if reliable else [text],
    }


def ensemble_summary(group: Replicas) -> Summary:
    """The figures of one ensemble."""
    observables, warnings = observables_summary(group)
    seconds = sum(file.seconds for file in group.files)
    core_seconds = sum(file.seconds * int(file.attributes["threads"]) for file in group.files)
    motion = _slowest_motion(group)
    frozen = motion.changes < MIN_CHANGES
    summary: Summary = {
        "sampler": group.sampler["name"],
        "n_chains": group.n_chains,
        "n_configs": group.n_configs,
        "acceptance_rate": _acceptance_rate(group),
        "seconds": seconds or None,  # not known of an imported ensemble
        "threads": int(group.files[0].attributes["threads"]),
        "frozen": frozen,
        "seconds_per_independent_config": None,
        "cost_observable": _cost_observable(observables),
        "thermalisation_dropped": group.first,
        "every": group.every,
        "settings": group.sampler,
        "observables": observables,
        "topology": topology_summary(group, observables),
    }
    if group.log_ratios:
        summary["reweighting"], doubts = _reweighting(group)
        warnings = doubts + warnings
        if doubts:
            _distrust(observables)
    if group.has("round_trips"):
        summary |= _round_trips(group)
        if summary["round_trips"] < MIN_CHANGES:
            warnings.insert(0, f"only {summary['round_trips']} round trips: replicas bring back where they were before")
            _distrust(observables)
    if frozen:
        summary["seconds_per_independent_config_at_least"] = core_seconds / max(1, motion.changes)
        _distrust(observables)
        warnings.insert(0, f"frozen: {motion.text}; errors cannot be trusted")
    else:
        cost = observables.get(summary["cost_observable"])
        if cost and core_seconds > 0:  # nobody knows what an imported ensemble took
            summary["seconds_per_independent_config"] = core_seconds / cost["n_eff"]
    if group.has("rejection_run"):
        summary["longest_rejection_run"] = int(max(chain.max() for chain in group.series("rejection_run")))
        n_proposals = group.n_configs * group.sampler["n_updates"]
        if summary["longest_rejection_run"] > max(20.0, _LONG_RUN * n_proposals):
            warnings.append(f"a chain rejected {summary['longest_rejection_run']} proposals in a row")
    if summary["acceptance_rate"] is not None and summary["acceptance_rate"] < _LOW_ACCEPTANCE:
        warnings.append(f"acceptance rate {summary['acceptance_rate']:.2g}: the chains hardly move")
    for name in [name for name in group.files[0].series_names if name.startswith("accepted_")]:
        if (rate := float(np.mean(np.concatenate(group.series(name))))) < _LOW_ACCEPTANCE:
            warnings.append(f"acceptance rate {rate:.2g} of part {name.removeprefix('accepted_')}: it hardly moves")
    if _short_build(group.sampler):
        warnings.append(f"n_thermalisation below {_FEWEST_DEPOSITS}: the bias of metadynamics is hardly built")
        _distrust(observables)
    log_w = group.proposals("log_w")
    if log_w is not None and np.isfinite(log_w).sum() > 1:
        summary["proposals"] = weights_summary(log_w)
        warnings.extend(summary["proposals"].pop("warnings"))
    return {**summary, "warnings": warnings}


def _reweighting(group: Replicas) -> tuple[Summary, list[str]]:
    """How far the configurations overlap with the target, and what to say about it."""
    weights = weights_summary(np.concatenate(group.series(LOG_W)))
    figures = {key: weights[key] for key in ("ess", "n_samples", "pareto_k", "largest_weight_share", "reliable")}
    doubts = []
    if not figures["reliable"]:
        doubts.append(
            f"reweighting: too little overlap, ESS * N = {figures['ess'] * figures['n_samples']:.0f}, "
            f"Pareto k-hat = {figures['pareto_k']:.2f}; simulate nearer to these couplings"
        )
    return {"from": group.sampled_theory, **figures}, doubts


def _acceptance_rate(group: Replicas) -> float | None:
    """The mean over all production updates; None where nothing is tested."""
    return float(np.mean(np.concatenate(group.series("accepted")))) if group.has("accepted") else None


class _Motion(NamedTuple):
    """How often the slowest series moved, and in words."""

    changes: int
    text: str


def _slowest_motion(group: Replicas) -> _Motion:
    """The changes of the topological charge; where there is none, the fewest passages of any series."""
    if group.has(_CHARGE):
        changes = sum(count_changes(chain) for chain in group.series(_CHARGE))
        return _Motion(changes, f"the topological charge changed {changes} times")
    long = [one for one in group.observables() if min(map(len, group.series(one.name))) >= _FEWEST_CONFIGS]
    passages = {one.name: count_crossings(group.series(one.name), one.odd) for one in long}
    if not passages:
        return _Motion(0, "there are too few configurations to say whether anything moves")
    slowest = min(passages, key=passages.__getitem__)
    return _Motion(passages[slowest], f"{slowest} went through its range {passages[slowest]} times")


def _round_trips(group: Replicas) -> Summary:
    """How often replicas went from the target to the end of the ladder and back, and after how many updates each."""
    chains = group.series("round_trips")
    trips = int(sum(chain.sum() for chain in chains))
    n_updates = sum(len(chain) for chain in chains) * group.sampler["n_updates"]
    return {"round_trips": trips, "updates_per_round_trip": n_updates / trips if trips else None}


def _distrust(observables: Summary) -> None:
    """No row of an ensemble that did not move is above doubt: every observable knows the charge to some degree."""
    for row in observables.values():
        row["trusted"] = False


def _short_build(settings: Summary) -> bool:
    """Whether metadynamics, at any depth, had too few deposits to build its bias."""
    inside = [settings, *settings.get("parts", ()), settings.get("replica", {})]
    names = {part.get("name") if part is settings else part.get("sampler") for part in inside}
    return "metadynamics" in names and settings["n_thermalisation"] < _FEWEST_DEPOSITS


def _cost_observable(observables: Summary) -> str | None:
    """What an independent configuration is counted by: Q^2, or the slowest observable where there is no Q."""
    n_eff = {name: figures["n_eff"] for name, figures in observables.items() if figures["n_eff"] > 0}
    if _CHARGE_SQUARED in observables:
        return _CHARGE_SQUARED if _CHARGE_SQUARED in n_eff else None
    return min(n_eff, key=n_eff.__getitem__) if n_eff else None


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
