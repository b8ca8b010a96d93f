"""Measurement on stored fields: more series for a finished ensemble, by the same code as on a running chain."""

import io
import json
import shlex
import time
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from rich.console import Console
from rich.markup import escape

from lattice_flows.atomic_files import write_atomically
from lattice_flows.card.arguments import arguments, built, checked, lookup
from lattice_flows.card.build import couplings_of
from lattice_flows.card.observables import asked_for
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError, written_to
from lattice_flows.production.beginning import check_measurements
from lattice_flows.production.devices import kernel_threads, use_threads
from lattice_flows.production.header_check import check_header
from lattice_flows.regular_files import open_regular, real
from lattice_flows.statistics import MIN_LENGTH
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.terminal.progress import Meter, meter
from lattice_flows.terminal.streams import printable
from lattice_flows.theories.action import Action
from lattice_flows.theories.catalogue import THEORIES
from lattice_flows.theories.measurement import Measurement, measured, observables_of
from lattice_flows.theories.u1.observables import WilsonLoop

_BLOCK_BYTES = 16 << 20  # of fields in memory
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
    """The measurements in these texts (see `parse_observable`), checked like the tables of a card of the file's theory.

    Raises InputError for a wrong text; EnsembleError if the file cannot be read.
    """
    with Ensemble.open(path) as ensemble:
        check_header(ensemble)
        name, action = _theory(path, ensemble.attributes)
    tables = [parse_observable(text) for text in texts]
    return tuple(asked_for(tables, action, name).values())


def measure(
    path: Path,
    measurements: Sequence[Measurement],
    stop: StopRequest,
    console: Console,
    block_seconds: float = 0.2,
) -> None:
    """Add the series of these measurements to a finished ensemble file, from its stored fields.

    Series that the file already holds are skipped; if the path is a symbolic link, its target gets the series. Raises
    InputError if the file holds all of them, or an observable at other configurations; if no fields are stored, the
    ensemble is unfinished, an observable does not belong to its theory or would be measured too rarely, or if a call
    for other observables was interrupted. Raises EnsembleError, before any work, if the file is damaged or cannot be
    written, LockedError if another process writes it. Raises Stopped on a signal: the measurements so far are kept
    in NAME.measuring.npz, and the same call continues them.

    block_seconds: the time between two checks for a stop request.
    """
    path = real(path)
    with Ensemble.open(path) as ensemble:
        _check(path, ensemble, measurements)
        missing = _missing(path, ensemble, measurements, console)
        _check_writable(path)
        partial = _Partial.load(path, ensemble, console) or _Partial.begin(path, missing)
        _check_same_request(path, partial, missing)
        _warn(path, ensemble, missing, console)
        _check_kept(path, ensemble, missing)
        tables = _tables(path, ensemble.attributes) + [one.as_dict() for one in missing]
        use_threads(kernel_threads(ensemble.n_configs * ensemble.n_chains))
        with meter(console, path.stem, ensemble.n_configs, "configurations") as progress:
            _go_through(ensemble, partial, stop, progress, block_seconds)
    if _sha256(path) != partial.sha256:
        raise InputError(f"{path}: was changed by another process in the meantime; measure again")
    every = {one.observable.name: one.every for one in missing}
    Ensemble.add_series(path, partial.joined(), every, {"observables": json.dumps(tables)})
    partial.remove()
    _say(console, path, f"added {', '.join(every)}")
    if computed := _computed(path, set(every)):
        _say(console, path, f"`analyse` computes {', '.join(computed)} from them")


@dataclass
class _Partial:
    """The series measured on the first n_done configurations, and the file that keeps them between calls."""

    path: Path
    sha256: str  # of the ensemble
    measurements: list[Measurement]
    n_done: int = 0
    series: dict[str, list[np.ndarray]] = field(default_factory=dict)

    @classmethod
    def begin(cls, path: Path, measurements: list[Measurement]) -> "_Partial":
        """The state before any measurement."""
        series: dict[str, list[np.ndarray]] = {one.observable.name: [] for one in measurements}
        return cls(_partial_path(path), _sha256(path), measurements, 0, series)

    @classmethod
    def load(cls, path: Path, ensemble: Ensemble, console: Console) -> "_Partial | None":
        """The state that an interrupted call left, for whatever observables.

        None if there is nothing usable: a state that is damaged, or of other contents of the file, is deleted.
        """
        new = cls(_partial_path(path), _sha256(path), [])
        if not new.path.exists():
            return None
        try:
            with open_regular(new.path) as image, np.load(image, allow_pickle=False) as file:
                held = {name: file[name] for name in file.files}
            if held["sha256"].item() == new.sha256:
                new._take(held, ensemble)
                return new
            why = f"{path.name} has changed since"
        except Exception:  # numpy and zipfile raise nearly anything on broken bytes
            why = "it is damaged"
        new.remove()
        _say(console, path, f"deleted {new.path.name}: {why}")
        return None

    def _take(self, held: Mapping[str, np.ndarray], ensemble: Ensemble) -> None:
        """Take over these arrays. Raises one of many errors if they are not as `save` writes them."""
        _, action = _theory(self.path, ensemble.attributes)
        tables = json.loads(held["observables"].item())
        self.measurements = [Measurement.from_dict(table, action) for table in tables]
        n_done = held["n_done"]
        if not self.measurements or n_done.shape or n_done.dtype.kind != "i" or not 0 <= n_done <= ensemble.n_configs:
            raise ValueError("neither observables nor a count of configurations")
        self.n_done = int(n_done)
        for one in self.measurements:
            values = held[f"series/{one.observable.name}"]
            if values.shape != (_n_rows(self.n_done, one.every), ensemble.n_chains) or values.dtype != np.float64:
                raise ValueError(f"{one.observable.name} does not fit")
            self.series[one.observable.name] = [values]

    def joined(self) -> dict[str, np.ndarray]:
        """The series (k, B) by name."""
        return {name: np.concatenate(parts) for name, parts in self.series.items()}

    def save(self) -> None:
        """Replace the file atomically."""
        arrays: dict[str, Any] = {f"series/{name}": values for name, values in self.joined().items()}
        observables = json.dumps([one.as_dict() for one in self.measurements])
        arrays |= {"sha256": self.sha256, "observables": observables, "n_done": self.n_done}
        image = io.BytesIO()
        np.savez(image, **arrays)
        write_atomically(self.path, image.getbuffer())

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def _partial_path(path: Path) -> Path:
    return path.with_suffix(".measuring.npz")


def _n_rows(n_configs: int, every: int) -> int:
    return -(-n_configs // every)


def _say(console: Console, path: Path, text: str) -> None:
    console.print(f"[bold]{escape(printable(path.stem))}[/bold]  {escape(text)}", highlight=False, soft_wrap=True)


def _go_through(
    ensemble: Ensemble, partial: _Partial, stop: StopRequest, progress: Meter, block_seconds: float
) -> None:
    """Measure the remaining configurations, in blocks of a fraction of a second."""
    _, action = _theory(partial.path, ensemble.attributes)
    event = ensemble.field.shape
    room = max(1, _BLOCK_BYTES // (8 * ensemble.n_chains * int(np.prod(event))))
    rows, saved = 1, time.monotonic()
    while partial.n_done < ensemble.n_configs:
        begun, start = time.monotonic(), partial.n_done
        x = ensemble.configs(start, min(start + rows, ensemble.n_configs))  # (n, B, *event)
        block, _ = measured(partial.measurements, x.astype(action.space.dtype, copy=False), start)
        for name, values in block.items():
            partial.series[name].append(values)
        partial.n_done += len(x)
        progress.update(partial.n_done, "")
        now = time.monotonic()
        rows = min(room, 2 * rows) if now - begun < block_seconds else max(1, rows // 2)
        if stop() or now - saved > _SAVE_SECONDS:
            partial.save()
            saved = time.monotonic()
        stop.raise_if_set()


def _computed(path: Path, added: set[str]) -> list[str]:
    """The quantities that are functions of several series of the file, some of them new."""
    with Ensemble.open(path) as ensemble:
        _, action = _theory(path, ensemble.attributes)
        held, shape = set(ensemble.series_names), ensemble.field.lattice_shape
        known = [Measurement.from_dict(table, action).observable for table in _tables(path, ensemble.attributes)]
    found: dict[str, set[str]] = {}
    for quantity in (one for observable in known for one in observable.quantities(shape)):
        found[quantity.name] = {term.series for term in quantity.terms}
    return [name for name, needed in found.items() if len(needed) > 1 and needed & added and needed <= held]


def _check(path: Path, ensemble: Ensemble, measurements: Sequence[Measurement]) -> None:
    name, action = _theory(path, ensemble.attributes)
    for one in measurements:
        if one.unflowed.kind not in observables_of(action):
            raise InputError(f"{path}: {one.observable.name} is not an observable of {name}")
    if not ensemble.finished:
        raise InputError(f"{path}: is unfinished; finish it first with `lattice-flows run` on its run folder")
    if not ensemble.has_fields:
        raise InputError(f"{path}: stores only series; to measure later, generate with store_fields = true")


def _check_kept(path: Path, ensemble: Ensemble, measurements: Sequence[Measurement]) -> None:
    """Raise InputError for an observable that would change the configurations that the next one is given."""
    _, action = _theory(path, ensemble.attributes)
    try:
        check_measurements(measurements, ensemble.configs(0, 1)[0].astype(action.space.dtype, copy=False))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _missing(
    path: Path, ensemble: Ensemble, measurements: Sequence[Measurement], console: Console
) -> list[Measurement]:
    """The measurements that the file does not hold yet."""
    held = [one for one in measurements if one.observable.name in ensemble.series_names]
    for one in held:
        if not np.array_equal(ensemble.series_configs(one.observable.name), range(0, ensemble.n_configs, one.every)):
            raise InputError(f"{path}: already holds {one.observable.name}, with another `every` than {one.every}")
    names = ", ".join(one.observable.name for one in held)
    if len(held) == len(measurements):
        with suppress(OSError):  # a kill after the series were added leaves a stale file
            _Partial.load(path, ensemble, console)
        raise InputError(f"{path}: already holds all of this: {names}" if held else f"{path}: nothing to measure")
    if held:
        _say(console, path, f"already holds {names}")
    missing = [one for one in measurements if one not in held]
    for one in missing:
        _check_every(path, one, ensemble.n_configs)
    return missing


def _check_every(path: Path, one: Measurement, n_configs: int) -> None:
    """Raise InputError for a series of too few rows: it would have no error and could not be measured again."""
    n_rows = _n_rows(n_configs, one.every)
    if one.every > 1 and n_rows < MIN_LENGTH:
        most = max(1, (n_configs - 1) // (MIN_LENGTH - 1))
        raise InputError(
            f"{path}: {one.observable.name}: every = {one.every} leaves {n_rows} of {n_configs} configurations, "
            f"but an error takes {MIN_LENGTH}; here `every` must be at most {most}"
        )


def _check_writable(path: Path) -> None:
    """Take the writer's lock and verify the file, so that nothing is measured in vain."""
    with written_to(path.parent):
        Ensemble.resume(path).close()


def _check_same_request(path: Path, partial: _Partial, missing: Sequence[Measurement]) -> None:
    pending = {one.observable.name: one for one in partial.measurements}
    if pending == {one.observable.name: one for one in missing}:
        return
    command = shlex.join(["lattice-flows", "measure", str(path), *map(_text, partial.measurements)])
    raise InputError(
        f"{path}: a call for {', '.join(pending)} was interrupted; measure these first (`{command}`), "
        f"or delete {partial.path.name}"
    )


def _text(one: Measurement) -> str:
    """The text from which `parse_observable` makes this measurement."""
    table = one.as_dict()
    pairs = [
        f"{key}={value}"
        for key, value in table.items()
        if key not in ("name", "series") and (key, value) != ("every", 1)
    ]
    return " ".join([table["name"], *pairs])


def _warn(path: Path, ensemble: Ensemble, measurements: Sequence[Measurement], console: Console) -> None:
    """Print warnings about series that may be surprising."""
    extents = ensemble.field.lattice_shape
    loops = {one.observable.name: one.unflowed for one in measurements}
    # Loops are means over both orientations, r <= t: the longer side meets the shorter extent in one of them.
    winding = [name for name, loop in loops.items() if isinstance(loop, WilsonLoop) and loop.t >= min(extents)]
    if winding:
        lattice = " x ".join(map(str, extents))
        _say(console, path, f"warning: {', '.join(winding)}: winds around the lattice of {lattice} sites")
    if ensemble.field.dtype == "float32":
        rounded = "the fields are stored as float32: the series are measured on rounded fields"
        _say(console, path, f"{rounded} and equal those of the running chain only to single precision")


def _theory(path: Path, attributes: Mapping[str, Any]) -> tuple[str, Action]:
    """The theory's name as in a card, and its action."""
    table, where = _json(path, attributes, "theory", dict), f"{path}: theory"
    constructor = lookup(THEORIES, table.get("name"), where)
    return table["name"], built(constructor, where, **checked(arguments(constructor), couplings_of(table), where))


def _tables(path: Path, attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The [[observable]] tables that the file records."""
    return _json(path, attributes, "observables", list)


def _json(path: Path, attributes: Mapping[str, Any], key: str, kind: type) -> Any:
    try:
        value = json.loads(str(attributes[key]))
    except (KeyError, ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise InputError(f"{path}: has no valid attribute {key!r}; it was not written by lattice-flows")
    return value


def _sha256(path: Path) -> str:
    """The checksum of the contents that is stored in the file."""
    with h5py.File(path, "r") as file:
        return str(file.attrs["sha256"])
