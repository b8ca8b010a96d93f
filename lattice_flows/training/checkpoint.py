"""Checkpoints of a training: tensors and plain types only, written atomically."""

import errno
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lattice_flows.atomic_files import write_atomically
from lattice_flows.catalogue import PluginError
from lattice_flows.flows import FLOWS
from lattice_flows.later_keys import completed
from lattice_flows.regular_files import require_regular
from lattice_flows.theories.catalogue import completed_theory

CHECKPOINT_NAME = "checkpoint.pt"

_FORMAT = "lattice_flows training checkpoint"
_VERSION = 2
_LATER = {"processes": 1, "round_trip": None, "history": ""}  # what older checkpoints lack

Weights = dict[str, Tensor]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message is one line that says which and why."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything a resume needs. `header` and `settings` are JSON-able; the flow is used with the weights `average`."""

    header: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    threads: int  # torch's, of the run so far: other counts round sums differently
    step: int
    train_seconds: float
    reason: str  # why the training ended; "" while it has not
    worst_loss: float  # beyond which it counts as diverged
    flow: Weights
    average: Weights
    optimizer: dict[str, Any]
    generators: list[Tensor]  # states: of training, of monitoring
    clip: Weights = field(default_factory=dict)  # state of the gradient clipping
    noise: Weights = field(default_factory=dict)  # running estimate of the gradient's noise
    objective: Weights = field(default_factory=dict)  # state of an objective with a buffer
    best: dict[str, float] = field(default_factory=dict)  # what the patience is measured from
    parent: str = ""  # checksum of the weights it started from, where it did
    processes: int = 1  # that shared the work, of the run's last part
    round_trip: float | None = None  # of the last look, see `Validation`
    history: str = ""  # checksum of the rows of history.csv so far


class FlowWeights(NamedTuple):
    """The part of a finished or running training that users of the flow need."""

    header: dict[str, Any]
    weights: Weights  # averaged; flow.load_state_dict(weights)
    sha256: str  # of header and weights
    step: int
    train_seconds: float


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write it: readers see the old file or the new one.

    Raises OSError, which names the file, if it cannot be written.
    """
    content = {each.name: getattr(checkpoint, each.name) for each in fields(Checkpoint)}
    content["header"] = json.dumps(checkpoint.header, sort_keys=True)
    content["settings"] = json.dumps(checkpoint.settings, sort_keys=True)
    image = io.BytesIO()  # torch does not survive an error of the file that it writes to
    torch.save({"format": _FORMAT, "version": _VERSION, **content}, image)
    write_atomically(path, image.getbuffer())


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`, on the CPU. Nothing in the file is executed.

    Raises CheckpointError for a file that is missing, truncated, foreign or of another version.
    """
    try:
        require_regular(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the records' checksums
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except OSError as error:
        if error.errno in (None, errno.EMFILE, errno.ENFILE, errno.EIO):  # no fault of the file
            raise
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except Exception as error:  # zipfile and torch.load raise half a dozen types for files that are not torch's
        raise CheckpointError(f"{path}: not a readable checkpoint ({type(error).__name__})") from error
    if damaged is not None:
        raise CheckpointError(f"{path}: damaged: the checksum of {damaged} does not agree")
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of lattice_flows")
    if content.get("version") != _VERSION:
        version = content.get("version")
        raise CheckpointError(f"{path}: checkpoint version {version}, this package reads {_VERSION}; train again")
    content = {**_LATER, **content}
    names = {each.name for each in fields(Checkpoint)}
    if missing := names - content.keys():
        raise CheckpointError(f"{path}: incomplete checkpoint, without {', '.join(sorted(missing))}")
    values = {name: content[name] for name in names}
    for name in ("flow", "average"):
        weights = values[name]
        if not isinstance(weights, dict) or not all(
            isinstance(w, Tensor) and w.isfinite().all() for w in weights.values()
        ):
            raise CheckpointError(f"{path}: its {name} weights are not finite tensors by name")
    try:
        tables = {name: json.loads(values[name]) for name in ("header", "settings")}
    except (TypeError, ValueError):
        raise CheckpointError(f"{path}: its header is not JSON") from None
    return Checkpoint(**{**values, **tables})


def load_flow_weights(path: Path) -> FlowWeights:
    """Header, averaged weights and their checksum. Raises CheckpointError as read_checkpoint does."""
    checkpoint = read_checkpoint(path)
    checksum = content_sha256(checkpoint.header, checkpoint.average)
    return FlowWeights(checkpoint.header, checkpoint.average, checksum, checkpoint.step, checkpoint.train_seconds)


def completed_header(header: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's header with the couplings and the keys of the flow that an older version did not know."""
    tables = {key: change(header[key]) for key, change in _COMPLETED.items() if header.get(key)}
    return {**header, **tables}


def _completed_flow(table: Mapping[str, Any]) -> dict[str, Any]:
    try:
        added = FLOWS[table["name"]].added
    except (KeyError, PluginError):  # the code is not installed: the table stays what it is
        return dict(table)
    return json.loads(json.dumps(completed(table, added)))  # where tuples are lists


_COMPLETED = {"theory": completed_theory, "flow": _completed_flow}


def content_sha256(header: dict[str, Any], weights: Weights) -> str:
    """sha256 over the header and the name, type, shape and bytes of every weight: equal flows have equal sums."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(weights):
        array = weights[name].detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
