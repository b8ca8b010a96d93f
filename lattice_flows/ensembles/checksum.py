"""The root attributes sha256, over everything in the file but itself, and header_sha256, over the other root
attributes, both in a defined order.

Objects come in the order of their sorted names, a group before its members. Each is one line of JSON, [kind, path,
type, shape], then (datasets) the bytes in C order and little endian, then one line [path, name, type, shape, value] for
each attribute in sorted order. Text is included as it is, numbers as the hexadecimal of their bytes, object references
as the paths they point to.

Datasets also carry HDF5's fletcher32, which is checked on every read. Attributes have nothing like it: texts are in the
global heap, for which HDF5 keeps no checksum. So every opening checks header_sha256, over the lines of the root
attributes alone.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import h5py
import numpy as np

from lattice_flows.ensembles.errors import EnsembleError
from lattice_flows.ensembles.layout import PIECE_BYTES


def content_sha256(file: h5py.File, known: Mapping[str, Sequence[np.ndarray]] | None = None) -> str:
    """The hexadecimal digest of `file`; reads it in pieces, so that memory stays bounded.

    known  path -> the rows that were just written there, still in memory; they are not read back.

    Raises EnsembleError on a type that no ensemble file has.
    """
    digest = hashlib.sha256()
    for path, item in _walk(file, "/"):
        _add_object(digest, path, item, (known or {}).get(path.lstrip("/")))
    return digest.hexdigest()


def header_sha256(attributes: Mapping[str, Any]) -> str:
    """The hexadecimal digest of root attributes, as h5py reads them; passes over both checksums.

    Raises EnsembleError on values that are neither text nor numbers.
    """
    digest = hashlib.sha256()
    for name in sorted(attributes.keys() - {"sha256", "header_sha256"}):
        _add_line(digest, "/", name, *_plain_value("/", name, attributes[name]))
    return digest.hexdigest()


def pieces(shape: tuple[int, ...], itemsize: int, chunks: tuple[int, ...] | None) -> Iterator[tuple[int | slice, ...]]:
    """Index tuples of pieces of at most 8 MiB in C order, aligned with the chunks along the cut axis."""
    if prod(shape) == 0:
        return
    axis = 0
    while axis < len(shape) and prod(shape[axis + 1 :]) * itemsize > PIECE_BYTES:
        axis += 1
    if axis == len(shape):
        yield ()
        return
    step = max(1, PIECE_BYTES // (prod(shape[axis + 1 :]) * itemsize))
    if chunks is not None and step > chunks[axis]:
        step -= step % chunks[axis]
    for leading in np.ndindex(*shape[:axis]):
        for start in range(0, shape[axis], step):
            yield (*leading, slice(start, min(start + step, shape[axis])))


def _walk(group: h5py.Group, path: str) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    yield path, group
    for name in sorted(group):
        item = group[name]
        below = f"{path.rstrip('/')}/{name}"
        if isinstance(item, h5py.Group):
            yield from _walk(item, below)
        else:
            yield below, item


def _add_object(digest: Any, path: str, item: h5py.Group | h5py.Dataset, known: Sequence[np.ndarray] | None) -> None:
    if isinstance(item, h5py.Dataset):
        _add_dataset(digest, path, item, known)
    elif isinstance(item, h5py.Group):
        _add_line(digest, "group", path, None, None)
    else:
        raise EnsembleError(f"{item.file.filename}: {path} is neither a group nor a dataset")
    attributes = item.attrs
    for name in sorted(attributes):
        if (path, name) != ("/", "sha256"):
            _add_line(digest, path, name, *_attribute(item, path, name, attributes[name]))


def _add_dataset(digest: Any, path: str, dataset: h5py.Dataset, known: Sequence[np.ndarray] | None) -> None:
    if dataset.dtype.kind not in "biuf":
        raise EnsembleError(f"{dataset.file.filename}: {path} holds {dataset.dtype}; an ensemble holds only numbers")
    _add_line(digest, "dataset", path, _type(dataset.dtype), dataset.shape)
    stored = (np.asarray(dataset[piece]) for piece in pieces(dataset.shape, dataset.dtype.itemsize, dataset.chunks))
    for values in stored if known is None else known:
        digest.update(np.ascontiguousarray(values.astype(_type(dataset.dtype), copy=False)))


def _attribute(item: h5py.Group | h5py.Dataset, path: str, name: str, value: Any) -> tuple[str, tuple[int, ...], Any]:
    if isinstance(value, np.ndarray) and value.dtype.names == (
        "dataset",
        "dimension",
    ):  # REFERENCE_LIST of a dimension scale
        return "references", value.shape, [[_name(item, target), int(axis)] for target, axis in value]
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":  # DIMENSION_LIST: the scales of each axis
        return "references", value.shape, [[_name(item, target) for target in scales] for scales in value]
    return _plain_value(path, name, value)


def _plain_value(path: str, name: str, value: Any) -> tuple[str, tuple[int, ...], Any]:
    if isinstance(value, str):
        return "text", (), value
    if isinstance(value, bytes):
        return "bytes", (), value.hex()
    values = np.asarray(value)
    if values.dtype.kind not in "biuf":
        raise EnsembleError(f"attribute {name} of {path} is neither text nor numbers")
    return _type(values.dtype), values.shape, values.astype(_type(values.dtype)).tobytes().hex()


def _name(item: h5py.Group | h5py.Dataset, reference: h5py.Reference) -> str:
    name = h5py.h5r.get_name(reference, item.id)
    if name is None:
        raise EnsembleError(f"{item.file.filename}: {item.name} refers to an object that does not exist")
    return name.decode()


def _type(dtype: np.dtype) -> str:
    return np.dtype(dtype).newbyteorder("<").str


def _add_line(digest: Any, *parts: Any) -> None:
    digest.update(json.dumps(parts).encode() + b"\n")
