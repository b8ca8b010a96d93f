"""The ensemble file: HDF5 that survives kills, full disks and flipped bytes, and that xarray opens as it is.

A running ensemble is a folder of immutable segments, ``NAME.segments/000000.h5, ...``; a finished one is the single
file ``NAME.h5``. Both have one schema, see `layout`. Readers take whatever is there.
"""

from lattice_flows.ensembles.ensemble import Ensemble
from lattice_flows.ensembles.errors import EnsembleError, LockedError, StorageError
from lattice_flows.ensembles.layout import Block, FieldSpec, multiples
from lattice_flows.ensembles.writer import EnsembleWriter

__all__ = [
    "Block",
    "Ensemble",
    "EnsembleError",
    "EnsembleWriter",
    "FieldSpec",
    "LockedError",
    "StorageError",
    "multiples",
]
