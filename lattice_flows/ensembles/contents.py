"""The contents of a file and how they are written: axes, tables, state, attributes, checksum; alike in all files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from lattice_flows.ensembles.checksum import content_sha256, header_sha256
from lattice_flows.ensembles.errors import EnsembleError
from lattice_flows.ensembles.layout import FieldSpec, check_name, chunk_shape, config_axis, multiples

# By this name a scale without values is known to netCDF and xarray as a mere dimension.
_BARE_DIMENSION = "This is a netCDF dimension but not a netCDF variable. %9d"


@dataclass(frozen=True)
class Table:
    """One dataset with a row for each configuration or proposal; `rows` gives them in consecutive pieces."""

    path: str
    dtype: np.dtype
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    rows: Iterable[np.ndarray]
    every: int = 1
    compression: str = "none"


@dataclass(frozen=True)
class Contents:
    attributes: Mapping[str, Any]
    axes: Mapping[str, np.ndarray]
    tables: tuple[Table, ...]
    state: Mapping[str, np.ndarray]

    def write(self, file: h5py.File) -> Iterator[None]:
        """Fill an empty HDF5 file; yields after each piece of data, and computes the checksums at the end."""
        for name, values in self.axes.items():
            file.create_dataset(name, data=values).make_scale(name)
        for table in self.tables:
            yield from _write_table(file, table)
        _write_state(file.create_group("state"), self.state)
        for name, value in self.attributes.items():
            file.attrs[name] = value
        file.attrs["header_sha256"] = header_sha256(file.attrs)
        in_memory = {table.path: table.rows for table in self.tables if isinstance(table.rows, Sequence)}
        file.attrs["sha256"] = content_sha256(file, in_memory)
        yield


def axes_of(
    field: FieldSpec | None, chains: range, configs: range, proposals: range | None, everies: Iterable[int]
) -> dict[str, np.ndarray]:
    """The root-level axes and their values: numbers of configurations, chains, lattice sites and proposals, int64."""
    axes = {"config": _numbers(configs), "chain": _numbers(chains)}
    for every in sorted(set(everies) - {1}):
        axes[config_axis(every)] = multiples(configs.start, configs.stop, every)
    if proposals is not None:
        axes["proposal"] = _numbers(proposals)
    if field is not None:
        axes |= {name: _numbers(range(length)) for name, length in zip(field.dims, field.shape)}
    return axes


def state_arrays(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state as arrays of numbers. Raises EnsembleError for names and types that the file cannot hold."""
    arrays = {}
    for name, value in state.items():
        for part in str(name).split("/"):
            check_name(part, f"state {name!r}")
            if part.startswith("length_"):
                raise EnsembleError(
                    f"state {name!r}: names that begin with length_ are reserved for the axes; choose another"
                )
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise EnsembleError(f"state {name!r}: dtype {array.dtype} cannot be stored; use bool, integers or floats")
        arrays[name] = array
    for name in arrays:
        parents = name.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            if (parent := "/".join(parents[:depth])) in arrays:
                raise EnsembleError(f"state: {parent!r} cannot be an array and hold {name!r} as well; rename one")
    return arrays


def _numbers(numbers: range) -> np.ndarray:
    return np.arange(numbers.start, numbers.stop, dtype=np.int64)


def _write_table(file: h5py.File, table: Table) -> Iterator[None]:
    dataset = _create(file, table.path, table.shape, table.dtype, table.compression)
    start = 0
    for rows in table.rows:
        if len(rows):
            dataset[start : start + len(rows)] = rows
        start += len(rows)
        yield
    assert start == table.shape[0], f"{table.path}: got {start} rows, but {table.shape[0]} were announced"
    for axis, name in enumerate(table.dims):
        dataset.dims[axis].attach_scale(file[name])
    if table.every > 1:
        dataset.attrs["every"] = table.every


def _create(group: h5py.Group, path: str, shape: tuple[int, ...], dtype: np.dtype, compression: str) -> h5py.Dataset:
    """A dataset whose every value is under a checksum that HDF5 itself compares when it reads.

    Chunks carry a fletcher32 each. A scalar cannot be chunked: it is in the object header, which has a checksum. An
    empty dataset needs none.
    """
    if shape == ():
        return _create_scalar(group, path, dtype)
    if 0 in shape:
        return group.create_dataset(path, shape=shape, dtype=dtype)
    chunks, gzip = chunk_shape(shape, dtype.itemsize), compression == "gzip"
    return group.create_dataset(
        path,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shuffle=gzip,
        compression=4 if gzip else None,
        fletcher32=True,
        fill_time="never",
    )


def _create_scalar(group: h5py.Group, path: str, dtype: np.dtype) -> h5py.Dataset:
    compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    compact.set_layout(h5py.h5d.COMPACT)  # h5py's own create_dataset would make it contiguous
    parents = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    parents.set_create_intermediate_group(True)
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    kind = h5py.h5t.py_create(dtype, logical=True)
    return h5py.Dataset(h5py.h5d.create(group.id, path.encode(), kind, space, dcpl=compact, lcpl=parents))


def _write_state(group: h5py.Group, arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        dataset = _create(group, name, array.shape, array.dtype, "none")
        dataset[...] = array
        used: list[int] = []
        for axis, length in enumerate(array.shape):
            dataset.dims[axis].attach_scale(_length_axis(group, length, used.count(length)))
            used.append(length)


def _length_axis(group: h5py.Group, length: int, repetition: int) -> h5py.Dataset:
    """The axis /state/length_n; an array with two axes of one length gets a second one: xarray wants distinct names."""
    name = f"length_{length}" if repetition == 0 else f"length_{length}_{repetition + 1}"
    if name not in group:
        group.create_dataset(name, shape=(length,), dtype="u1").make_scale(_BARE_DIMENSION % length)
    return group[name]
