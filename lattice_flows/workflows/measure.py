"""Measure on stored fields: more series for a finished ensemble, through the code of the running chain."""

import io
import json
import os
import time
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from rich.console import Console

from lattice_flows.actions import ACTIONS
from lattice_flows.ensembles import Ensemble
from lattice_flows.workflows.compute import kernel_threads, use_threads
from lattice_flows.workflows.errors import InputError
from lattice_flows.workflows.interrupt import StopRequest
from lattice_flows.workflows.measurements import Measurement, asked_for, measured
from lattice_flows.workflows.progress import Meter, meter
from lattice_flows.workflows.tables import lookup

_BLOCK_BYTES = 16 << 20  # of fields in memory
_BLOCK_SECONDS = 0.2  # of work between two looks at the stop request
_SAVE_SECONDS = 30.0


def parse_observable(text: str) -> dict[str, Any]:
    """The [[observable]] table that "wilson_loop r=2 t=3 flow_time=0.5 every=10" stands for, its values as in TOML.

    Raises InputError for any other form.
    """
    name, *pairs = text.split() or [""]
    table: dict[str, Any] = {"name": name}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not (key and value) or key in table:
            raise InputError(
                f"observable {text!r}: {pair!r}: must be written NAME KEY=VALUE KEY=VALUE..., each key once"
            )
        try:
            table[key] = tomllib.loads(f"value = {value}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            table[key] = value
    return table


def requested(path: Path, texts: Sequence[str]) -> tuple[Measurement, ...]:
    """What these texts (see `parse_observable`) ask for, checked as the tables of a card of the file's theory.

    Raises InputError, in one line, for what is wrong with one; EnsembleError where the file cannot be read.
    """
    with Ensemble.open(path) as ensemble:
        theory = _theory(path, ensemble.attributes)
    tables = [parse_observable(text) for text in texts]
    return tuple(asked_for(tables, ACTIONS[theory].space, theory).values())


def measure(path: Path, measurements: Sequence[Measurement], stop: StopRequest, console: Console) -> None:
    """Add the series of these measurements to a finished ensemble file, from its stored fields.

    What the file holds already is passed over. Raises InputError where it holds all of it, or an observable at other
    configurations; where no fields are stored, the ensemble is unfinished, or an observable is not of its theory.
    Raises Stopped on a signal: what was measured until then is kept in NAME.measuring.npz, and the same call goes on.
    """
    with Ensemble.open(path) as ensemble:
        _check(path, ensemble, measurements)
        missing = _missing(path, ensemble, measurements, console)
        tables = _tables(path, ensemble.attributes) + [one.as_dict() for one in missing]
        partial = _Partial.load(path, missing, ensemble)
        use_threads(kernel_threads(ensemble.n_configs * ensemble.n_chains))
        with meter(console, path.stem, ensemble.n_configs, "configurations") as progress:
            _go_through(ensemble, missing, partial, stop, progress)
    if _sha256(path) != partial.sha256:
        raise InputError(f"{path}: was changed by another process meanwhile; measure again")
    every = {one.observable.name: one.every for one in missing}
    Ensemble.add_series(path, partial.joined(), every, {"observables": json.dumps(tables)})
    partial.remove()
    console.print(f"[bold]{path.stem}[/bold]  added {', '.join(every)}", highlight=False, soft_wrap=True)


@dataclass
class _Partial:
    """What was measured on the first n_done configurations, and the file that keeps it between two calls."""

    path: Path
    sha256: str  # of the ensemble
    observables: str
    n_done: int = 0
    series: dict[str, list[np.ndarray]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, measurements: Sequence[Measurement], ensemble: Ensemble) -> "_Partial":
        """What an interrupted call left; nothing where that was about another file content or other observables."""
        observables = json.dumps([one.as_dict() for one in measurements])
        new = cls(_partial_path(path), _sha256(path), observables)
        new.series = {one.observable.name: [] for one in measurements}
        if not new.path.exists():
            return new
        try:
            with new.path.open("rb") as image, np.load(image, allow_pickle=False) as file:
                held = {name: file[name] for name in file.files}
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
            held = {}
        if _fits(held, new, measurements, ensemble):
            new.n_done = int(held["n_done"])
            new.series = {name: [held[f"series/{name}"]] for name in new.series}
        else:
            new.remove()
        return new

    def joined(self) -> dict[str, np.ndarray]:
        """name -> (k, B)."""
        return {name: np.concatenate(parts) for name, parts in self.series.items()}

    def save(self) -> None:
        """Replace the file at once."""
        arrays: dict[str, Any] = {f"series/{name}": values for name, values in self.joined().items()}
        arrays |= {"sha256": self.sha256, "observables": self.observables, "n_done": self.n_done}
        image, temporary = io.BytesIO(), self.path.with_suffix(".tmp")
        np.savez(image, **arrays)
        try:
            with temporary.open("wb") as file:
                file.write(image.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def _partial_path(path: Path) -> Path:
    return path.with_suffix(".measuring.npz")


def _go_through(
    ensemble: Ensemble, measurements: Sequence[Measurement], partial: _Partial, stop: StopRequest, progress: Meter
) -> None:
    """Measure what is missing, in blocks of a fraction of a second."""
    event = ensemble.field.shape
    room = max(1, _BLOCK_BYTES // (8 * ensemble.n_chains * int(np.prod(event))))
    rows, saved = 1, time.monotonic()
    while partial.n_done < ensemble.n_configs:
        begun, start = time.monotonic(), partial.n_done
        x = ensemble.configs(start, min(start + rows, ensemble.n_configs))  # (n, B, *event)
        block, _ = measured(measurements, x.astype(np.float64, copy=False), start)
        for name, values in block.items():
            partial.series[name].append(values)
        partial.n_done += len(x)
        progress.update(partial.n_done, "")
        now = time.monotonic()
        rows = min(room, 2 * rows) if now - begun < _BLOCK_SECONDS else max(1, rows // 2)
        if stop() or now - saved > _SAVE_SECONDS:
            partial.save()
            saved = time.monotonic()
        stop.raise_if_set()


def _check(path: Path, ensemble: Ensemble, measurements: Sequence[Measurement]) -> None:
    theory = _theory(path, ensemble.attributes)
    for one in measurements:
        if one.observable.space is not ACTIONS[theory].space:
            raise InputError(f"{path}: {one.observable.name} is not an observable of {theory}")
    if not ensemble.finished:
        raise InputError(f"{path}: is not finished; finish it with `lattice-flows run` on its run folder first")
    if not ensemble.has_fields:
        raise InputError(f"{path}: keeps its series alone; to measure later, generate with store_fields = true")


def _missing(
    path: Path, ensemble: Ensemble, measurements: Sequence[Measurement], console: Console
) -> list[Measurement]:
    """The measurements that the file does not hold."""
    held = [one for one in measurements if one.observable.name in ensemble.series_names]
    for one in held:
        if not np.array_equal(ensemble.series_configs(one.observable.name), range(0, ensemble.n_configs, one.every)):
            raise InputError(f"{path}: holds {one.observable.name} already, with another `every` than {one.every}")
    names = ", ".join(one.observable.name for one in held)
    if len(held) == len(measurements):
        _partial_path(path).unlink(missing_ok=True)
        raise InputError(f"{path}: holds all of this already: {names}" if held else f"{path}: nothing to measure")
    if held:
        console.print(f"[bold]{path.stem}[/bold]  holds already {names}", highlight=False, soft_wrap=True)
    return [one for one in measurements if one not in held]


def _fits(held: Mapping[str, np.ndarray], new: _Partial, wanted: Sequence[Measurement], ensemble: Ensemble) -> bool:
    """Whether the arrays are what a call for the same series on the same file content has left."""
    texts = {"sha256": new.sha256, "observables": new.observables}
    if any(name not in held or held[name].shape or held[name].item() != text for name, text in texts.items()):
        return False
    n_done = held.get("n_done", np.float64())
    if n_done.shape or n_done.dtype.kind != "i" or not 0 <= n_done <= ensemble.n_configs:
        return False
    shapes = {f"series/{one.observable.name}": (-(-int(n_done) // one.every), ensemble.n_chains) for one in wanted}
    return all(name in held and held[name].shape == shape for name, shape in shapes.items()) and all(
        held[name].dtype == np.float64 for name in shapes
    )


def _theory(path: Path, attributes: Mapping[str, Any]) -> str:
    """The name of the theory, as in a card."""
    table = _json(path, attributes, "theory", dict)
    lookup(ACTIONS, table.get("name"), f"{path}: theory")
    return table["name"]


def _tables(path: Path, attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the file says was measured."""
    return _json(path, attributes, "observables", list)


def _json(path: Path, attributes: Mapping[str, Any], key: str, kind: type) -> Any:
    try:
        value = json.loads(str(attributes[key]))
    except (KeyError, ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise InputError(f"{path}: does not say its {key}; it was not written by lattice-flows")
    return value


def _sha256(path: Path) -> str:
    """The checksum of the content that the file carries."""
    with h5py.File(path, "r") as file:
        return str(file.attrs["sha256"])
