"""The facts recorded in a file, and the verification of its checksums."""

import json
from pathlib import Path
from typing import Any

from lattice_flows.ensembles import Ensemble
from lattice_flows.ensembles.finite import not_finite
from lattice_flows.errors import InputError
from lattice_flows.monitor.run_check import verified_checkpoint, verified_run
from lattice_flows.production.header_check import check_header
from lattice_flows.training import load_flow_weights, n_parameters, read_checkpoint

_CHECKPOINT_SUFFIX = ".pt"


def describe(path: Path) -> dict[str, Any]:
    """The facts recorded in an ensemble file or a checkpoint.

    Raises EnsembleError or CheckpointError for a broken or missing file, InputError for a folder.
    """
    if _is_checkpoint(path):
        trained, checkpoint = load_flow_weights(path), read_checkpoint(path)
        return {
            "kind": "flow checkpoint",
            **{key: json.dumps(value) for key, value in trained.header.items()},
            "step": trained.step,
            "train_seconds": f"{trained.train_seconds:.1f}",
            "ended by": checkpoint.reason or "not finished",
            "n_parameters": n_parameters(trained.weights),
            **({"parent sha256": checkpoint.parent} if checkpoint.parent else {}),
            "sha256": trained.sha256,
        }
    with Ensemble.open_remains(path) as ensemble:
        unknown = check_header(ensemble)
        attributes = {key: value for key, value in ensemble.attributes.items() if key != "card"}
        return {
            "kind": "ensemble" if ensemble.finished else "ensemble, unfinished (segments)",
            **attributes,
            "fields": f"{ensemble.field.name} {list(ensemble.field.shape)}" if ensemble.has_fields else "not stored",
            "series": " ".join(ensemble.series_names),
            "proposals": " ".join(ensemble.proposal_names) or "none",
            **({"unknown here": "; ".join(unknown)} if unknown else {}),
        }


def verify(path: Path) -> list[str]:
    """The checks that passed, a line each, of a file or of all files of a run folder.

    Raises EnsembleError or CheckpointError for a broken file, InputError for one that is not of the folder's run.
    """
    if path.is_dir() and path.suffix != ".segments":
        return list(verified_run(path))
    if _is_checkpoint(path):
        return [verified_checkpoint(path)]
    with Ensemble.open_remains(path) as ensemble:
        lines = ensemble.verify()
        return lines + [f"{path}: {text}" for text in (*check_header(ensemble), *not_finite(ensemble))]


def _is_checkpoint(path: Path) -> bool:
    if path.is_dir() and path.suffix != ".segments":
        raise InputError(f"{path}: is a folder; give an ensemble file or a checkpoint")
    return path.suffix == _CHECKPOINT_SUFFIX
