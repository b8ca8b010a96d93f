"""Adding series to a finished ensemble: its file is rewritten with them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lattice_flows.ensembles.contents import Table
from lattice_flows.ensembles.errors import EnsembleError
from lattice_flows.ensembles.file_sequence import Parts, exists, find_parts
from lattice_flows.ensembles.header import checked_header
from lattice_flows.ensembles.join import joined_contents
from lattice_flows.ensembles.layout import config_axis, n_multiples
from lattice_flows.ensembles.lock import WriterLock
from lattice_flows.ensembles.storage import commit_streaming
from lattice_flows.ensembles.uncommitted import stored_dtype
from lattice_flows.ensembles.writer import clean


def add_series(
    path: Path, series: Mapping[str, np.ndarray], every: Mapping[str, int], header: Mapping[str, Any]
) -> None:
    """Rewrite a finished ensemble with more series, see `Ensemble.add_series`."""
    if not exists(path):
        raise EnsembleError(f"{path}: no such ensemble: there is neither this file nor segments")
    lock = WriterLock(path)
    try:
        parts = find_parts(path)
        try:
            _add(path, parts, series, every, header)
        finally:
            parts.close()
    finally:
        lock.release()


def _add(
    path: Path, parts: Parts, series: Mapping[str, np.ndarray], every: Mapping[str, int], header: Mapping[str, Any]
) -> None:
    if parts.last.path != path:
        raise EnsembleError(f"{path}: is not finished, there are segments; run it to its end first")
    if unknown := every.keys() - series.keys():
        raise EnsembleError(f"{path}: every names {sorted(unknown)}, which are not among the series to add")
    tables = [_table(path, parts, name, values, every.get(name, 1)) for name, values in series.items()]
    design = replace(parts.first.design, header={**parts.first.design.header, **checked_header(header)})
    parts.verify()  # a copy must not lend a fresh checksum to damaged data
    commit_streaming(path, joined_contents(parts, design, tables).write)
    clean(path, parts.last.next_segment)


def _table(path: Path, parts: Parts, name: str, values: np.ndarray, every: int) -> Table:
    values = np.asarray(values)
    dtype = stored_dtype(name, values)
    if name in parts.names("series"):
        raise EnsembleError(f"{path}: already has a series {name!r}; give the new one another name")
    if not (isinstance(every, int) and every >= 1):
        raise EnsembleError(f"{path}: series {name} comes every {every!r} configurations; give a positive integer")
    shape = (n_multiples(0, parts.n_configs, every), len(parts.first.design.chains))
    if values.shape != shape:
        raise EnsembleError(f"{path}: series {name} has shape {values.shape}, it should be {shape}")
    rows = [values.astype(dtype, copy=False)]
    return Table(f"series/{name}", dtype, (config_axis(every), "chain"), shape, rows, every)
