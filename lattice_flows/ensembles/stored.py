"""A check that HDF5 leaves out: whether a file holds what the shapes of its datasets announce.

What was never written is read as zeros, so that a file of some kilobytes can claim more values than any memory holds.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import h5py

from lattice_flows.ensembles.errors import EnsembleError
from lattice_flows.ensembles.layout import CHUNK_BYTES

_LARGEST_CHUNK = 64 * CHUNK_BYTES  # of a file that another program has written anew; a chunk is read as a whole


def check_stored(path: Path, datasets: Mapping[str, h5py.h5d.DatasetID]) -> None:
    """Raise EnsembleError for a dataset, by its path in the file, of which values are missing in the file.

    The lengths in /state are names of axes without values; they must be those of its arrays.
    """
    arrays = [one for name, one in datasets.items() if name.startswith("state/") and not _is_length(name)]
    lengths = {length for one in arrays for length in one.shape}
    for name, dataset in datasets.items():
        announced = math.prod(dataset.shape) * dataset.dtype.itemsize
        if _is_length(name):
            if dataset.shape[0] not in lengths:
                raise EnsembleError(f"{path}: /{name} has the length {dataset.shape[0]}, which no array of /state has")
        elif not _is_stored(path, name, dataset, announced):
            raise EnsembleError(
                f"{path}: /{name} announces {announced} bytes, {tuple(dataset.shape)} values, which are not all in the "
                "file: it is no ensemble file of this package, or damaged"
            )


def _is_length(name: str) -> bool:
    """Whether it is an axis of arrays in /state, see `contents`."""
    return name.startswith("state/") and name.rpartition("/")[2].startswith("length_")


def _is_stored(path: Path, name: str, dataset: h5py.h5d.DatasetID, announced: int) -> bool:
    properties = dataset.get_create_plist()
    if properties.get_layout() != h5py.h5d.CHUNKED:
        return dataset.get_storage_size() == announced
    chunk = properties.get_chunk()
    if (size := math.prod(chunk) * dataset.dtype.itemsize) > _LARGEST_CHUNK:
        raise EnsembleError(f"{path}: /{name} is stored in pieces of {size} bytes; those of an ensemble are smaller")
    wanted = math.prod(-(-length // own) for length, own in zip(dataset.shape, chunk))
    return dataset.get_num_chunks() == wanted
