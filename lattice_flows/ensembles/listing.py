"""The objects in a file, found in one pass: opening an ensemble of many segments takes mostly this."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from lattice_flows.ensembles.errors import EnsembleError

_TEXT = h5py.string_dtype()
_TEXT_ID = h5py.h5t.py_create(_TEXT)


@dataclass(frozen=True)
class Survey:
    """The names of the groups at the root, and all datasets by path, such as "series/action"."""

    groups: frozenset[str]
    datasets: Mapping[str, h5py.h5d.DatasetID]

    def members(self, group: str) -> list[tuple[str, h5py.h5d.DatasetID]]:
        """The datasets of the group and their paths, sorted."""
        return [(path, self.datasets[path]) for path in sorted(self.datasets) if path.startswith(f"{group}/")]

    def shape(self, path: str) -> tuple[int, ...] | None:
        """The shape of a dataset; None if there is no such dataset."""
        return tuple(self.datasets[path].shape) if path in self.datasets else None


def survey(file: h5py.File) -> Survey:
    groups: set[str] = set()
    datasets: dict[str, h5py.h5d.DatasetID] = {}

    def collect(name: bytes, info: h5py.h5o.ObjInfo) -> None:
        path = name.decode()
        if info.type == h5py.h5o.TYPE_DATASET:
            datasets[path] = dataset = h5py.h5d.open(file.id, name)
            properties = dataset.get_create_plist()
            if properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count():
                raise EnsembleError(f"{file.filename}: /{path} keeps its values in other files; an ensemble never does")
        elif "/" not in path and path != ".":
            groups.add(path)

    soft: list[str] = []

    def check_link(name: bytes, info: h5py.h5l.LinkInfo) -> None:
        if info.type != h5py.h5l.TYPE_HARD:
            soft.append(name.decode())  # an error must not pass through HDF5 here

    file.id.links.visit(check_link, info=True)
    if soft:
        raise EnsembleError(f"{file.filename}: /{soft[0]} is a link; an ensemble has none")
    h5py.h5o.visit(file.id, collect, info=True)
    return Survey(frozenset(groups), datasets)


def root_attributes(file: h5py.File) -> dict[str, Any]:
    """The same as dict(file.attrs), in a fifth of the time for texts and numbers."""
    names: list[bytes] = []
    h5py.h5a.iterate(file.id, lambda name, *_: names.append(name))
    return {name.decode("utf-8", "surrogateescape"): _root_attribute(file, name) for name in names}


def _root_attribute(file: h5py.File, name: bytes) -> Any:
    attribute = h5py.h5a.open(file.id, name)
    kind = attribute.get_type()
    if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str() and attribute.shape == ():
        text = np.zeros((), _TEXT)
        attribute.read(text, mtype=_TEXT_ID)
        return bytes(text[()]).decode("utf-8", "surrogateescape")
    if isinstance(kind, (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)) and _n_values(attribute):
        values = np.empty(attribute.shape, kind.dtype)
        attribute.read(values)
        return values[()]
    return file.attrs[name.decode("utf-8", "surrogateescape")]


def _n_values(attribute: h5py.h5a.AttrID) -> int:
    """0 also for the shape of no lattice, whose storage size h5py does not tell."""
    return attribute.get_space().get_simple_extent_npoints()


def integer_attribute(dataset: h5py.h5d.DatasetID, name: str, default: int) -> int:
    """An attribute that is one integer, or the default if there is none."""
    if not h5py.h5a.exists(dataset, name.encode()):
        return default
    value = np.empty((), np.int64)
    h5py.h5a.open(dataset, name.encode()).read(value)
    return int(value)
