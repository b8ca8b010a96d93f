"""The progress of an ensemble, from a few attributes of its last file: fast enough for a thousand ensembles."""

from pathlib import Path
from typing import NamedTuple

import h5py

from lattice_flows.ensembles.errors import EnsembleError, reading
from lattice_flows.ensembles.layout import segment_numbers, segment_path
from lattice_flows.ensembles.storage import open_file

_COUNTERS = ("first_chain", "n_chains", "first_config", "n_configs")


class Glance(NamedTuple):
    """The progress of an ensemble according to its last file. Nothing is checked: for the data, open the ensemble."""

    chains: range
    n_configs: int  # per chain
    finished: bool  # all is joined in one file
    seconds: float  # of the production of this file
    task: str  # that of a job array, empty where there is none


def glance(path: Path) -> Glance:
    """A look at the ensemble NAME.h5, also while it is still NAME.segments.

    Raises EnsembleError if there is none, or its last file does not record its progress.
    """
    numbers = segment_numbers(path)
    try:
        return _glance(segment_path(path, numbers[-1]) if numbers else path, finished=not numbers)
    except FileNotFoundError:  # joined while we looked
        pass
    try:
        return _glance(path, finished=True)
    except FileNotFoundError:
        raise EnsembleError(f"{path}: no such ensemble: there is neither this file nor segments") from None


def _glance(file_path: Path, finished: bool) -> Glance:
    with reading(file_path), open_file(file_path) as file:
        first_chain, n_chains, first_config, n_configs = (int(file.attrs[name]) for name in _COUNTERS)
        seconds = float(file.attrs["seconds"])
        task = str(file.attrs["task"]) if h5py.h5a.exists(file.id, b"task") else ""
    return Glance(range(first_chain, first_chain + n_chains), first_config + n_configs, finished, seconds, task)
