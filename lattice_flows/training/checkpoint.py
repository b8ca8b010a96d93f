"""Checkpoints of a training: tensors and plain types only, written atomically."""

import errno
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
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
_LATER: dict[str, Any] = {
    "processes": 1,
    "round_trip": None,
    "history": "",
    "integration": {},
}  # what older checkpoints lack

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
    integration: dict[str, float] = field(default_factory=dict)  # n_steps, step_error of a flow in steps: see `refine`


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
    for name in ("header", "settings"):
        values[name] = _json_table(path, name, values[name])
    for name, (is_right, right) in _ENTRIES.items():
        if not is_right(values[name]):
            raise CheckpointError(f"{path}: its {name} is a {type(values[name]).__name__}; it should be {right}")
    for name in ("flow", "average"):
        _check_weights(path, name, values[name])
    return Checkpoint(**values)


def _json_table(path: Path, name: str, text: Any) -> dict[str, Any]:
    """A header or the settings. Raises CheckpointError for anything but a table, whose own tables have names."""
    try:
        table = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise CheckpointError(f"{path}: its {name} is not JSON") from None
    if not isinstance(table, dict):
        raise CheckpointError(f"{path}: its {name} is a {type(table).__name__}; it should be a table")
    for key in ("theory", "flow") if name == "header" else ():
        own = table.get(key)
        if own is not None and not (isinstance(own, dict) and isinstance(own.get("name", ""), str)):
            raise CheckpointError(f"{path}: its {key} is {str(own)[:60]!r}; it should be a table, whose name is a text")
    return table


def _check_weights(path: Path, name: str, weights: Weights) -> None:
    for key, weight in weights.items():
        if not weight.is_floating_point():
            raise CheckpointError(f"{path}: {key} of its {name} weights holds {weight.dtype}, not real numbers")
        if not weight.isfinite().all():
            raise CheckpointError(f"{path}: {key} of its {name} weights is not finite; train again")


def _is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_named(values: Any, is_right: Callable[[Any], bool]) -> bool:
    return isinstance(values, dict) and all(isinstance(key, str) and is_right(one) for key, one in values.items())


def _is_tensor(value: Any) -> bool:
    """Whether it is a tensor with a number of its own at each place: one that repeats a few can be of any size."""
    return isinstance(value, Tensor) and value.numel() * value.element_size() <= value.untyped_storage().nbytes()


_TENSORS = (lambda value: _are_named(value, _is_tensor), "tensors by name")
_ENTRIES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (_is_whole, "a whole number"),
    "threads": (lambda value: _is_whole(value, 1), "a whole number of at least 1"),
    "step": (_is_whole, "a whole number"),
    "processes": (lambda value: _is_whole(value, 1), "a whole number of at least 1"),
    "train_seconds": (lambda value: _is_number(value) and 0 <= value < math.inf, "a number of seconds"),
    "worst_loss": (lambda value: _is_number(value) and not math.isnan(value), "a number"),
    "round_trip": (lambda value: value is None or _is_number(value), "a number or nothing"),
    "reason": (lambda value: isinstance(value, str), "a text"),
    "parent": (lambda value: isinstance(value, str), "a text"),
    "integration": (lambda value: _are_named(value, _is_number), "numbers by name"),
    "best": (lambda value: _are_named(value, _is_number), "numbers by name"),
    "optimizer": (lambda value: isinstance(value, dict), "a table"),
    "generators": (lambda value: isinstance(value, list) and all(map(_is_tensor, value)), "a list of tensors"),
    **dict.fromkeys(("flow", "average", "clip", "noise", "objective"), _TENSORS),
}
"""Of a checkpoint: whether an entry is of the right type, and what that is."""


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


def n_parameters(weights: Weights) -> int:
    """The number of parameters: all weights but those in which modules keep their other state."""
    return sum(weight.numel() for name, weight in weights.items() if not name.endswith("_extra_state"))


def content_sha256(header: dict[str, Any], weights: Weights) -> str:
    """sha256 over the header and the name, type, shape and bytes of every weight: equal flows have equal sums."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(weights):
        array = weights[name].detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
