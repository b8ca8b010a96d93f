"""One file of an ensemble: its schema and header, checked when it is opened, and its checksum, checked on demand."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lattice_flows.ensembles.checksum import content_sha256, header_sha256
from lattice_flows.ensembles.contents import axes_of
from lattice_flows.ensembles.errors import EnsembleError, reading
from lattice_flows.ensembles.header import Design
from lattice_flows.ensembles.heap_check import check_heaps
from lattice_flows.ensembles.layout import (
    ADDED,
    FORMAT,
    RESERVED,
    SCHEMA_VERSION,
    FieldSpec,
    config_axis,
    n_multiples,
)
from lattice_flows.ensembles.listing import Survey, integer_attribute, root_attributes, survey
from lattice_flows.ensembles.storage import open_file
from lattice_flows.ensembles.stored import check_stored

Identity = tuple[int, int, int]  # of a file on disk: inode, time of the last change in ns, size


@dataclass(frozen=True)
class TableInfo:
    shape: tuple[int, ...]
    dtype: np.dtype
    every: int = 1


@dataclass(frozen=True)
class Part:
    """One file, described without reading its data. The keys of `tables` are paths such as "series/action"."""

    path: Path
    identity: Identity
    design: Design
    configs: range
    proposals: range
    next_segment: int
    seconds: float
    sha256: str
    header_checked: bool  # older files have no header_sha256
    tables: Mapping[str, TableInfo]
    groups: frozenset[str]

    @contextmanager
    def open(self) -> Iterator[h5py.File]:
        """The HDF5 file, read-only; whatever it raises becomes an EnsembleError."""
        with reading(self.path), self.opened() as file:
            yield file

    def opened(self) -> h5py.File:
        """The same, for the caller to close. Raises EnsembleError if a join removed or replaced the file."""
        try:
            file = open_file(self.path)
        except FileNotFoundError:
            raise EnsembleError(
                f"{self.path}: removed since the ensemble was opened, as it was finished; refresh, or open it again"
            ) from None
        if _identity(os.fstat(file.id.get_vfd_handle())) != self.identity:
            file.close()
            raise EnsembleError(
                f"{self.path}: replaced since the ensemble was opened, as it grew; refresh, or open it again"
            )
        return file

    def names(self, group: str) -> list[str]:
        return [path.partition("/")[2] for path in self.tables if path.startswith(f"{group}/")]

    def everies(self) -> set[int]:
        return {info.every for info in self.tables.values()}

    def state(self) -> dict[str, np.ndarray]:
        """The arrays of /state by name ("latent/x" for those in groups); scalars have the shape ()."""
        arrays: dict[str, np.ndarray] = {}

        def collect(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset) and not name.startswith("length_"):
                arrays[name] = np.asarray(item[()])

        with self.open() as file:
            file["state"].visititems(collect)
        return arrays

    def verify(self) -> str:
        """Recompute the checksum and compare the axes. Returns what was checked; raises EnsembleError."""
        with self.open() as file:
            check_heaps(self.path, survey(file).datasets.values())
            found = content_sha256(file)
            if found != self.sha256:
                raise EnsembleError(
                    f"{self.path}: damaged: its content has sha256 {found[:9]}..., recorded is {self.sha256[:9]}..."
                )
            proposals = self.proposals if "proposals" in self.groups else None
            field = self.design.field if self.design.store_fields else None
            for name, values in axes_of(field, self.design.chains, self.configs, proposals, self.everies()).items():
                if not np.array_equal(file[name][()], values):
                    raise EnsembleError(f"{self.path}: the axis {name} does not agree with the attributes")
        start, stop, megabytes = self.configs.start, self.configs.stop, self.path.stat().st_size / 1e6
        older = "" if self.header_checked else "; older format: its attributes are checked only here, not at opening"
        return f"{self.path}: sha256 and axes are right, configurations {start} to {stop}, {megabytes:.1f} MB{older}"


def read_part(path: Path) -> Part:
    """Open `path`, check its header and schema and close it; reads attributes and shapes, no data.

    Raises EnsembleError for any file that is unsound or foreign, FileNotFoundError if there is none.
    """
    identity = identity_of(path)
    with reading(path), open_file(path) as file:
        found = survey(file)
        check_heaps(path, found.datasets.values())
        check_stored(path, found.datasets)
        stored = root_attributes(file)
        attributes = {name: _plain(value) for name, value in stored.items()}
        if attributes.get("format") != FORMAT:
            raise EnsembleError(
                f"{path}: not an ensemble file: its attribute format is {attributes.get('format')!r}, not {FORMAT!r}"
            )
        if attributes.get("schema_version") != SCHEMA_VERSION:
            version = attributes.get("schema_version")
            raise EnsembleError(f"{path}: schema_version {version!r} is unknown; this package reads {SCHEMA_VERSION}")
        missing = sorted(RESERVED - ADDED - attributes.keys())
        if missing:
            raise EnsembleError(f"{path}: the attributes {', '.join(missing)} are missing")
        if "header_sha256" in attributes and (digest := header_sha256(stored)) != attributes["header_sha256"]:
            recorded = str(attributes["header_sha256"])
            raise EnsembleError(
                f"{path}: damaged: its attributes have sha256 {digest[:9]}..., recorded is {recorded[:9]}..."
            )
        part = _part(path, identity, attributes, found)
        _check(part, found)
    return part


def identity_of(path: Path) -> Identity:
    """The identity of the file at `path`. Raises FileNotFoundError if there is none."""
    return _identity(path.stat())


def _identity(status: os.stat_result) -> Identity:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _part(path: Path, identity: Identity, attributes: Mapping[str, Any], found: Survey) -> Part:
    def counted(what: str) -> range:
        start, n = int(attributes[f"first_{what}"]), int(attributes[f"n_{what}s"])
        if start < 0 or n < 0:
            raise EnsembleError(f"{path}: first_{what} {start} and n_{what}s {n} must not be negative")
        return range(start, start + n)

    dims = tuple(str(attributes["field_dims"]).split())
    return Part(
        path=path,
        identity=identity,
        design=Design(
            header={name: value for name, value in attributes.items() if name not in RESERVED},
            chains=counted("chain"),
            field=FieldSpec(str(attributes["field"]), dims, attributes["field_shape"], str(attributes["field_dtype"])),
            store_fields="fields" in found.groups,
            compression=str(attributes.get("compression", "none")),
        ),
        configs=counted("config"),
        proposals=counted("proposal"),
        next_segment=int(attributes["next_segment"]),
        seconds=float(attributes["seconds"]),
        sha256=str(attributes["sha256"]),
        header_checked="header_sha256" in attributes,
        tables={
            path: TableInfo(tuple(dataset.shape), dataset.dtype, integer_attribute(dataset, "every", 1))
            for group in ("fields", "series", "proposals")
            for path, dataset in found.members(group)
        },
        groups=found.groups,
    )


def _check(part: Part, found: Survey) -> None:
    """Raise EnsembleError unless the datasets have the shapes that the attributes announce."""
    if "state" not in part.groups:
        raise EnsembleError(f"{part.path}: the group /state is missing")
    design = part.design
    expected = {"config": len(part.configs), "chain": len(design.chains)}
    if "proposals" in part.groups:
        expected["proposal"] = len(part.proposals)
    elif len(part.proposals):
        raise EnsembleError(
            f"{part.path}: {len(part.proposals)} proposals are announced, but the group /proposals is missing"
        )
    if design.store_fields:
        expected |= dict(zip(design.field.dims, design.field.shape))
        if part.names("fields") != [design.field.name]:
            raise EnsembleError(
                f"{part.path}: /fields holds {part.names('fields')}, it should hold {design.field.name}"
            )
    for path, info in part.tables.items():
        shape, dtypes = _expected_table(part, path, info)
        if info.shape != shape or info.dtype.name not in dtypes:
            right = f"{' or '.join(dtypes)} {shape}"
            raise EnsembleError(f"{part.path}: /{path} is {info.dtype} {info.shape}, it should be {right}")
        expected[config_axis(info.every)] = n_multiples(part.configs.start, part.configs.stop, info.every)
    for name, length in expected.items():
        if (axis := found.shape(name)) != (length,):
            raise EnsembleError(f"{part.path}: the axis {name} has shape {axis}, it should be ({length},)")


def _expected_table(part: Part, path: str, info: TableInfo) -> tuple[tuple[int, ...], tuple[str, ...]]:
    group, n_chains = path.partition("/")[0], len(part.design.chains)
    if info.every < 1:
        raise EnsembleError(
            f"{part.path}: /{path} is measured every {info.every} configurations; every must be positive"
        )
    if group == "fields":
        field = part.design.field
        return (len(part.configs), n_chains, *field.shape), (field.dtype,)
    if group == "series":
        n_rows = n_multiples(part.configs.start, part.configs.stop, info.every)
        return (n_rows, n_chains), ("float64", "int64")
    return (len(part.proposals), n_chains), ("float64", "int64")


def _plain(value: Any) -> Any:
    """An attribute as Python str, int, float or tuple of these."""
    if isinstance(value, np.ndarray):
        return tuple(value.tolist())
    return value.item() if isinstance(value, np.generic) else value
