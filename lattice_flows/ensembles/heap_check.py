"""A check that HDF5 lacks: the global heaps, which hold texts and references, carry no checksum, and a flipped byte in
them can send the library into an endless loop. So their structure is walked here before HDF5 reads them (HDF5 file
format, III.E).
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py

from lattice_flows.ensembles.errors import EnsembleError

_SIGNATURE = b"GCOL\x01"  # a heap with another signature or version HDF5 refuses by itself
_HEADER = 16  # bytes: of a heap (signature, version, size), and of each object in it (index, references, size)


def check_heaps(path: Path, datasets: Iterable[h5py.h5d.DatasetID]) -> None:
    """Raise EnsembleError unless every global heap of the file can be walked from beginning to end.

    datasets  all datasets of the file: heaps are looked for outside their data only.
    """
    with path.open("rb") as raw:
        for start, stop in _metadata_extents(datasets, path.stat().st_size):
            raw.seek(start)
            metadata = raw.read(stop - start)
            at = metadata.find(_SIGNATURE)
            while at >= 0:
                if not _is_whole(metadata, at):
                    raise EnsembleError(f"{path}: damaged: its heap of texts and references at byte {start + at}")
                at = metadata.find(_SIGNATURE, at + 1)


def _metadata_extents(datasets: Iterable[h5py.h5d.DatasetID], size: int) -> Iterator[tuple[int, int]]:
    """The extents between the data of the datasets, (start, stop) in bytes; a few tens of kilobytes in all."""
    stop = 0
    for begin, end in sorted(_data_extents(datasets)):
        if begin > stop:
            yield stop, begin
        stop = max(stop, end)
    yield stop, max(stop, size)


def _data_extents(datasets: Iterable[h5py.h5d.DatasetID]) -> list[tuple[int, int]]:
    extents = []
    for dataset in datasets:
        if (begin := dataset.get_offset()) is not None:
            extents.append((begin, begin + dataset.get_storage_size()))
        elif dataset.get_create_plist().get_layout() == h5py.h5d.CHUNKED:
            dataset.chunk_iter(lambda chunk: extents.append((chunk.byte_offset, chunk.byte_offset + chunk.size)))
    return extents


def _is_whole(metadata: bytes, at: int) -> bool:
    """Whether the heap at this place consists of objects that follow each other and end where it ends."""
    if at + _HEADER > len(metadata):
        return False
    (size,) = struct.unpack_from("<Q", metadata, at + 8)
    end = at + size
    if end > len(metadata):
        return False
    at += _HEADER
    while at + _HEADER <= end:
        index, length = struct.unpack_from("<H6xQ", metadata, at)
        step = length if index == 0 else _HEADER + -(-length // 8) * 8  # object 0 is the free space, header included
        if step <= 0:
            return False
        at += step
    return at <= end
