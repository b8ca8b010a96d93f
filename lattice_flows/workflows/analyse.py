"""From ensemble files to the numbers of summary.json."""

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from lattice_flows.ensembles import Ensemble
from lattice_flows.statistics import (
    Estimate,
    count_changes,
    effective_sample_size,
    gamma_method,
    is_reliable,
    largest_weight_share,
    log_partition,
    pareto_k,
    pull,
    r_hat,
    reweighted,
)
from lattice_flows.training import CHECKPOINT_NAME, read_checkpoint
from lattice_flows.workflows.assemble import oracle
from lattice_flows.workflows.card import Card
from lattice_flows.workflows.errors import InputError
from lattice_flows.workflows.folder import RunFolder
from lattice_flows.workflows.replicas import Replicas, open_replicas, transformed

_FROZEN_CHANGES = 20
_R_HAT_LIMIT = 1.05
_LENGTH_IN_TAU = 100  # a chain set shorter than so many tau_int does not know its tau_int
_CHAIN_LENGTH_IN_TAU = 25  # fluctuations are taken about each chain's own mean
_LOW_ACCEPTANCE = 0.1
_LONG_RUN = 0.05  # a run of rejections over so much of a chain says that the flow misses a region
_CHARGE = "topological_charge"
_CHARGE_SQUARED = "topological_charge_squared"

Summary = dict[str, Any]


def analyse_run(folder: RunFolder, card: Card) -> Summary:
    """The summary of a run: its flow, and those of its ensembles that hold anything.

    Raises InputError where there is nothing to analyse, EnsembleError for a broken file.
    """
    paths = [folder.ensemble(table.name) for table in card.ensembles]
    paths = [path for path in paths if _holds_configurations(path)]
    flow = flow_summary(folder, card) if card.flow is not None and _holds_configurations(folder.evaluation) else None
    if not paths and flow is None:
        raise InputError(f"{folder.path}: holds no ensembles yet; run or sample first")
    with ExitStack() as stack:
        groups = {path.stem: open_replicas([path], stack)[0] for path in paths}
        for name, group in groups.items():
            _check_theory(group, card)
            if group.name != name:
                raise InputError(
                    f"{folder.ensemble(name)}: holds the ensemble {group.name!r}; put it back to its place"
                )
        ensembles = {name: ensemble_summary(group) for name, group in groups.items()}
    return _plain({"theory": card.theory.as_dict(), "flow": flow, "ensembles": ensembles})


def _holds_configurations(path: Path) -> bool:
    """Whether the ensemble is begun and past its thermalisation."""
    if not Ensemble.exists(path):
        return False
    with Ensemble.open(path) as ensemble:
        return ensemble.n_configs > 0


def analyse_files(paths: Sequence[Path]) -> Summary:
    """The summary of ensemble files, of one theory. Raises InputError and EnsembleError as `open_replicas` does."""
    for path in paths:
        if not _holds_configurations(path):
            raise InputError(f"{path}: there is no such ensemble, or it is still thermalising")
    with ExitStack() as stack:
        groups = open_replicas(paths, stack)
        summary = {group.name: ensemble_summary(group) for group in groups}
        return _plain({"theory": groups[0].theory, "flow": None, "ensembles": summary})


def _check_theory(group: Replicas, card: Card) -> None:
    """Raises InputError where a file of the run's folder is not of the card's theory."""
    if group.theory != card.theory.as_dict():
        raise InputError(
            f"{group.files[0].path}: was made for the theory {group.theory}, the run's card has {card.theory.as_dict()}"
        )


def flow_summary(folder: RunFolder, card: Card) -> Summary:
    """How good the flow is, from fresh samples."""
    checkpoint = read_checkpoint(folder.flow / CHECKPOINT_NAME)
    with ExitStack() as stack:
        (samples,) = open_replicas([folder.evaluation], stack)
        _check_theory(samples, card)
        weights = weights_summary(np.concatenate(samples.series("log_w")))
        observables, warnings = _observables(samples)
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
    observables, warnings = _observables(group)
    seconds = sum(file.seconds for file in group.files)
    core_seconds = sum(file.seconds * int(file.attributes["threads"]) for file in group.files)
    frozen, changes = _frozen(group)
    summary: Summary = {
        "sampler": group.sampler["name"],
        "n_chains": group.n_chains,
        "n_configs": group.n_configs,
        "acceptance_rate": _acceptance_rate(group),
        "seconds": seconds,
        "threads": int(group.files[0].attributes["threads"]),
        "frozen": frozen,
        "seconds_per_independent_config": None,
        "settings": group.sampler,
        "observables": observables,
    }
    if frozen:
        summary["seconds_per_independent_config_at_least"] = core_seconds / max(1, changes or 0)
        warnings.insert(0, f"frozen: the topological charge changed {changes} times; its errors cannot be trusted")
    else:
        summary["seconds_per_independent_config"] = _per_independent_config(core_seconds, observables)
    if group.has("rejection_run"):
        summary["longest_rejection_run"] = int(max(chain.max() for chain in group.series("rejection_run")))
        n_proposals = group.n_configs * group.sampler["n_updates"]
        if summary["longest_rejection_run"] > max(20.0, _LONG_RUN * n_proposals):
            warnings.append(f"a chain rejected {summary['longest_rejection_run']} proposals in a row")
    if summary["acceptance_rate"] is not None and summary["acceptance_rate"] < _LOW_ACCEPTANCE:
        warnings.append(f"acceptance rate {summary['acceptance_rate']:.2g}: the chains hardly move")
    log_w = group.proposals("log_w")
    if log_w is not None and np.isfinite(log_w).sum() > 1:
        summary["proposals"] = weights_summary(log_w)
        warnings.extend(summary["proposals"].pop("warnings"))
    return {**summary, "warnings": warnings}


def _acceptance_rate(group: Replicas) -> float | None:
    """The mean over all production updates; None where nothing is tested."""
    return float(np.mean(np.concatenate(group.series("accepted")))) if group.has("accepted") else None


def _observables(group: Replicas) -> tuple[Summary, list[str]]:
    """The estimate of every quantity, and what is suspicious about them."""
    exact = oracle(group.theory)
    log_w = _weights(group)
    observables: Summary = {}
    warnings: list[str] = []
    suspicious: dict[str, list[str]] = {}
    for series_name, quantity in group.quantities():
        series = transformed(group.series(series_name), quantity)
        if min(len(chain) for chain in series) < 4:
            warnings.append(f"{quantity.name}: too few configurations for an error")
            continue
        if log_w is None:
            estimate = gamma_method(series)
        else:
            rows = group.rows(series_name)
            # n_eff counts chains' independent configurations; what weights leave of a sample is its ESS
            estimate = reweighted(series, [w[r] for w, r in zip(log_w, rows)])._replace(n_eff=math.nan)
        n = min(len(chain) for chain in series)
        agreement = r_hat(np.stack([chain[:n] for chain in series], axis=1)) if log_w is None else math.nan
        truth = quantity.exact(exact) if exact and quantity.exact else None
        observables[quantity.name] = {
            **estimate._asdict(),
            "r_hat": agreement,
            "exact": truth,
            "pull": None if truth is None else pull(estimate.value, estimate.error, truth),
        }
        for text in _suspicions(estimate, agreement, [len(chain) for chain in series]):
            suspicious.setdefault(text, []).append(quantity.name)
    return observables, warnings + [f"{', '.join(names)}: {text}" for text, names in suspicious.items()]


def _weights(group: Replicas) -> list[np.ndarray] | None:
    return group.series("log_w") if group.weighted else None


def _suspicions(estimate: Estimate, agreement: float, lengths: list[int]) -> list[str]:
    """What makes an estimate's error doubtful."""
    found = []
    if math.isnan(estimate.tau_int):
        return ["did not move at all, so the error is not known"]
    if sum(lengths) < _LENGTH_IN_TAU * estimate.tau_int:
        found.append(f"shorter than {_LENGTH_IN_TAU} tau_int, so the error is not well known")
    elif min(lengths) < _CHAIN_LENGTH_IN_TAU * estimate.tau_int:
        found.append(f"chains shorter than {_CHAIN_LENGTH_IN_TAU} tau_int each, so the error is too small")
    if agreement > _R_HAT_LIMIT:
        found.append(f"the chains disagree, R-hat > {_R_HAT_LIMIT}")
    return found


def _frozen(group: Replicas) -> tuple[bool, int | None]:
    """Whether Q changed fewer than 20 times, and how often it did; weighted samples cannot freeze."""
    if not group.has(_CHARGE) or group.weighted:
        return False, None
    changes = sum(count_changes(chain) for chain in group.series(_CHARGE))
    return changes < _FROZEN_CHANGES, changes


def _per_independent_config(core_seconds: float, observables: Summary) -> float | None:
    """Core seconds per independent configuration of Q^2, or of the slowest observable where there is no Q."""
    n_eff = [figures["n_eff"] for figures in observables.values() if not math.isnan(figures["n_eff"])]
    if _CHARGE_SQUARED in observables:
        n_eff = [observables[_CHARGE_SQUARED]["n_eff"]]
    return core_seconds / min(n_eff) if n_eff and not math.isnan(min(n_eff)) else None


def write_summary(summary: Summary, path: Path) -> None:
    """Write it as JSON, replacing what was there at once. Raises InputError where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


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
