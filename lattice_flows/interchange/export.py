"""Export of ensembles for other programs: netCDF, pyerrors, ArviZ, plain .npy.

Ensembles, also unfinished ones (segments), are read piece by piece and checked by the format's checksums. The target
appears complete or not at all, and nothing is ever overwritten.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from rich.console import Console

from lattice_flows.ensembles import Ensemble, StorageError
from lattice_flows.ensembles.layout import PIECE_BYTES, chunk_shape, config_axis
from lattice_flows.ensembles.storage import commit_streaming
from lattice_flows.errors import InputError, unwritable
from lattice_flows.interchange.pyerrors import name_of_pyerrors, write_pyerrors
from lattice_flows.interchange.target import made_apart, remove_leftovers
from lattice_flows.production.header_check import check_header
from lattice_flows.production.origin import Origin
from lattice_flows.terminal.interrupt import Stopped, StopRequest
from lattice_flows.theories.measurement import Measurement


@dataclass(frozen=True)
class _Table:
    """One dataset, its rows in consecutive pieces; `every` of the configurations are rows."""

    group: str
    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: Iterator[np.ndarray]
    every: int = 1


def export(
    path: Path,
    kind: str,
    target: Path | None = None,
    stop: StopRequest | None = None,
    console: Console | None = None,
) -> Path:
    """Write the ensemble NAME.h5 (or its segments) for another program, and return the path written.

    kind      default target, beside the source
    netcdf    NAME.nc        all in the root group: fields, series, proposals as proposal_NAME, axes as coordinates
    pyerrors  NAME.json.gz   one Obs per series, see `write_pyerrors`
    arviz     NAME.arviz.nc  InferenceData, see `_write_arviz`
    npy       NAME_npy/      fields.npy, series_NAME.npy, proposals_NAME.npy, header.json

    A target for pyerrors gets the suffix that its load_json would add to the name.

    stop      looked at between two pieces; then nothing is left behind
    console   for a warning where files of the ensemble are missing, see `Ensemble.open_remains`

    Raises InputError for an unknown kind, a target that exists or cannot be written, a missing package, or an ensemble
    without configurations; EnsembleError for a broken file; Stopped on a signal.
    """
    if kind not in KINDS:
        raise InputError(f"export: unknown kind {kind!r}; available: {', '.join(sorted(KINDS))}")
    suffix, write, named = KINDS[kind]
    stop, console = stop or StopRequest(), console or Console(stderr=True)
    with Ensemble.open_remains(path) as ensemble:
        check_header(ensemble)
        target = named(ensemble.path.with_name(ensemble.path.stem + suffix) if target is None else Path(target))
        if target.exists() or target.is_symlink() or (target.suffix == ".h5" and Ensemble.exists(target)):
            remove_leftovers(target)  # of one that was killed when all was done
            raise InputError(f"{target}: already exists and is not overwritten; choose another target")
        if not target.parent.is_dir():
            raise InputError(f"{target}: its folder does not exist; create it, or choose another target")
        if ensemble.n_configs == 0:
            raise InputError(f"{path}: holds no configurations yet")
        if ensemble.loss:
            console.print(f"warning: {path}: {ensemble.loss}", markup=False, highlight=False, soft_wrap=True)
        try:
            with made_apart(target) as made:
                write(ensemble, made, stop)
        except Stopped as stopped:
            raise Stopped(stop.signal, "nothing was kept; export again") from stopped
        except FileExistsError as error:
            raise InputError(f"{target}: {error.strerror}; choose another target") from None
        except StorageError as error:  # which names the temporary file
            cause = error.__cause__
            raise unwritable(target, cause) if isinstance(cause, OSError) else error from None
        except OSError as error:
            raise unwritable(target, error) from None
    return target


def _write_netcdf(ensemble: Ensemble, target: Path, stop: StopRequest) -> None:
    """Write all tables as variables. Series measured every k-th configuration have the axis config_every_k."""

    def fill(root: Any) -> Iterator[None]:
        _set_attributes(root, ensemble.attributes)
        for table in _watched(_tables(ensemble), stop):
            name = f"proposal_{table.name}" if table.group == "proposals" else table.name
            yield from _add_variable(root, name, table, ensemble.first_chain)

    _commit_netcdf(target, fill)


def _write_arviz(ensemble: Ensemble, target: Path, stop: StopRequest) -> None:
    """Write the layout of InferenceData, (chain, draw), without fields.

    posterior          the action and the observables measured on each configuration
    sample_stats       the sampler's own series for each configuration: accepted, delta_h, log_w, ...
    posterior_every_k  observables measured every k-th configuration; draw is the number of the configuration
    proposals          the values of every proposal; draw is its number

    ArviZ has no weights: if the attribute weighted is 1, averages need exp(log_w), which is in sample_stats.
    """
    observables = {"action", *(one.observable.name for one in _measurements(ensemble))}

    def group_of(table: _Table) -> str:
        if table.group == "proposals":
            return "proposals"
        if table.every > 1:
            return f"posterior_every_{table.every}"
        return "posterior" if table.name in observables else "sample_stats"

    def fill(root: Any) -> Iterator[None]:
        _set_attributes(root, ensemble.attributes)
        for table in _watched(chain(_series(ensemble), _proposals(ensemble)), stop):
            if (name := group_of(table)) not in root.groups:
                _set_attributes(root.create_group(name), {**ensemble.attributes, "inference_library": "lattice_flows"})
            yield from _add_variable(root.groups[name], table.name, _by_chain(table), ensemble.first_chain)

    _commit_netcdf(target, fill)


def _write_npy(ensemble: Ensemble, target: Path, stop: StopRequest) -> None:
    """Write plain arrays; header.json holds the attributes, the axes of each array, and `every` of the series."""
    header: dict[str, Any] = {"attributes": ensemble.attributes, "axes": {}, "every": {}}
    target.mkdir()
    for table in _watched(_tables(ensemble), stop):
        name = "fields" if table.group == "fields" else f"{table.group}_{table.name}"
        header["axes"][name], header["every"][name] = table.dims, table.every
        _write_array(target / f"{name}.npy", table)
    (target / "header.json").write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")


def _write_array(path: Path, table: _Table) -> None:
    """Write the table in order, not through a memory map, in which a full disk would kill the process."""
    layout = {"descr": np.lib.format.dtype_to_descr(table.dtype), "fortran_order": False, "shape": table.shape}
    with path.open("xb") as file:
        np.lib.format.write_array_header_1_0(file, layout)
        for rows in table.pieces:
            file.write(np.ascontiguousarray(rows).data)


def _tables(ensemble: Ensemble) -> Iterator[_Table]:
    """All tables except the state. Only one series or one piece of the fields is in memory at a time."""
    return chain(_fields(ensemble), _series(ensemble), _proposals(ensemble))


def _watched(tables: Iterator[_Table], stop: StopRequest) -> Iterator[_Table]:
    """The same tables. Raises Stopped between two pieces, once it is asked for."""

    def until_stopped(pieces: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for rows in pieces:
            stop.raise_if_set()
            yield rows

    return (replace(table, pieces=until_stopped(table.pieces)) for table in tables)


def _fields(ensemble: Ensemble) -> Iterator[_Table]:
    if not ensemble.has_fields:
        return
    field = ensemble.field
    shape, dtype = (ensemble.n_configs, ensemble.n_chains, *field.shape), np.dtype(field.dtype)
    pieces = (block for _, block in ensemble.blocks(PIECE_BYTES))
    yield _Table("fields", field.name, ("config", "chain", *field.dims), shape, dtype, pieces)


def _series(ensemble: Ensemble) -> Iterator[_Table]:
    for name in ensemble.series_names:
        values, every = ensemble.series(name), ensemble.every(name)
        dims = (config_axis(every), "chain")
        yield _Table("series", name, dims, values.shape, values.dtype, iter([values]), every)


def _proposals(ensemble: Ensemble) -> Iterator[_Table]:
    for name in ensemble.proposal_names:
        values = ensemble.proposals(name)
        if len(values):
            yield _Table("proposals", name, ("proposal", "chain"), values.shape, values.dtype, iter([values]))


def _by_chain(table: _Table) -> _Table:
    """The table of a series, which is in one piece, in ArviZ's order of axes."""
    pieces = (rows.T for rows in table.pieces)
    return replace(table, dims=("chain", "draw"), shape=table.shape[::-1], pieces=pieces)


def _measurements(ensemble: Ensemble) -> list[Measurement]:
    """The measurements on configurations; all other series belong to the sampler."""
    return list(Origin(ensemble.attributes).measurements)


def _commit_netcdf(target: Path, fill: Callable[[Any], Iterator[None]]) -> None:
    """Write a netCDF-4 file, streaming. Raises EnsembleError if it cannot be written."""
    try:
        import h5netcdf  # type: ignore[import-untyped]
    except ImportError:
        raise InputError(
            "export: the package h5netcdf is missing; install it with pip install 'lattice_flows[interchange]'"
        ) from None

    def build(file: h5py.File) -> Iterator[None]:
        with h5netcdf.File(file, "w") as root:
            yield from fill(root)

    settings = h5py.get_config()
    before, settings.track_order = settings.track_order, True  # else netCDF4 can read the file but not extend it
    try:
        commit_streaming(target, build)
    finally:
        settings.track_order = before


def _set_attributes(group: Any, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        group.attrs[name] = np.asarray(value, np.int64) if isinstance(value, tuple) else value


def _add_variable(group: Any, name: str, table: _Table, first_chain: int) -> Iterator[None]:
    """Stream a table into the group, with the coordinates that are still missing."""
    for axis, length in zip(table.dims, table.shape):
        if axis not in group.dimensions:
            numbers = first_chain + np.arange(length) if axis == "chain" else table.every * np.arange(length)
            group.dimensions[axis] = length
            group.create_variable(axis, (axis,), data=numbers.astype(np.int64))
    chunks = chunk_shape(table.shape, table.dtype.itemsize) or table.shape
    variable = group.create_variable(name, table.dims, dtype=table.dtype, chunks=chunks, fletcher32=True)
    if table.every > 1:
        variable.attrs["every"] = table.every
    start = 0
    for rows in table.pieces:
        variable[start : start + len(rows)] = rows
        start += len(rows)
        yield


class _Kind(NamedTuple):
    """How to write for another program: the suffix beside the source, and how it completes names that it is given."""

    suffix: str
    write: Callable[[Ensemble, Path, StopRequest], None]
    named: Callable[[Path], Path] = lambda target: target


KINDS: dict[str, _Kind] = {
    "netcdf": _Kind(".nc", _write_netcdf),
    "pyerrors": _Kind(".json.gz", write_pyerrors, name_of_pyerrors),
    "arviz": _Kind(".arviz.nc", _write_arviz),
    "npy": _Kind("_npy", _write_npy),
}
