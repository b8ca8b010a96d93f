"""Blocks that wait for the next commit, checked as they come."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from lattice_flows.ensembles.contents import Table
from lattice_flows.ensembles.errors import EnsembleError
from lattice_flows.ensembles.header import Design
from lattice_flows.ensembles.layout import Block, Schema, check_name, config_axis, n_multiples


class Pending:
    """Blocks that follow `n_configs` configurations and `n_proposals` proposals of an ensemble of this design."""

    def __init__(self, design: Design, n_configs: int, n_proposals: int, schema: Mapping[str, Schema]) -> None:
        self.configs = range(n_configs, n_configs)
        self.proposals = range(n_proposals, n_proposals)
        self.blocks: list[Block] = []
        self._field = design.field if design.store_fields else None
        self._n_chains = len(design.chains)
        self._compression = design.compression
        self._schema = dict(schema)

    def add(self, block: Block) -> None:
        """Add a block. Raises EnsembleError, and adds nothing, if it does not fit what the ensemble holds."""
        n = block.n_configs
        stop = self.configs.stop + n
        if unknown := block.every.keys() - block.series.keys():
            raise EnsembleError(f"block: every names {sorted(unknown)}, which are not among its series")
        rows = {name: n_multiples(self.configs.stop, stop, block.every.get(name, 1)) for name in block.series}
        series, series_schema = self._checked("series", block.series, block.every, rows, required=n > 0)
        m = next((len(values) for values in block.proposals.values()), 0)
        proposals, proposals_schema = self._checked(
            "proposals", block.proposals, {}, dict.fromkeys(block.proposals, m), required=m > 0
        )
        self.blocks.append(
            replace(block, series=series, proposals=proposals, fields=self._checked_fields(block.fields, n))
        )
        self._schema |= series_schema | proposals_schema
        self.configs = range(self.configs.start, stop)
        self.proposals = range(self.proposals.start, self.proposals.stop + m)

    def tables(self) -> Iterator[Table]:
        if self._field is not None:
            shape = (len(self.configs), self._n_chains, *self._field.shape)
            rows = [block.fields for block in self.blocks if block.fields is not None]
            path = f"fields/{self._field.name}"
            dims = ("config", "chain", *self._field.dims)
            yield Table(path, np.dtype(self._field.dtype), dims, shape, rows, compression=self._compression)
        if any(block.series for block in self.blocks):
            for path, (dtype, every) in self._schema["series"].items():
                name = path.partition("/")[2]
                shape = (n_multiples(self.configs.start, self.configs.stop, every), self._n_chains)
                rows = [block.series[name] for block in self.blocks if name in block.series]
                yield Table(path, dtype, (config_axis(every), "chain"), shape, rows, every)
        if any(block.proposals for block in self.blocks):
            for path, (dtype, _) in self._schema["proposals"].items():
                name = path.partition("/")[2]
                rows = [block.proposals[name] for block in self.blocks if name in block.proposals]
                yield Table(path, dtype, ("proposal", "chain"), (len(self.proposals), self._n_chains), rows)

    def _checked(
        self,
        group: str,
        given: Mapping[str, np.ndarray],
        every: Mapping[str, int],
        rows: Mapping[str, int],
        required: bool,
    ) -> tuple[dict[str, np.ndarray], dict[str, Schema]]:
        """The arrays in the dtypes of the ensemble, and the group's schema (of this block if it is the first)."""
        if not given and not required:
            return {}, {}
        arrays = {name: np.asarray(values) for name, values in given.items()}
        schema = self._schema.get(group)
        if schema is None:
            schema = {
                f"{group}/{name}": (stored_dtype(name, arrays[name]), int(every.get(name, 1)))
                for name in sorted(arrays)
            }
        names = [path.partition("/")[2] for path in schema]
        if sorted(arrays) != names:
            raise EnsembleError(f"block: its {group} are {sorted(arrays)}, those of the ensemble {names}")
        for name, array in arrays.items():
            dtype, known_every = schema[f"{group}/{name}"]
            if every.get(name, 1) != known_every:
                raise EnsembleError(
                    f"block: {name} comes every {every.get(name, 1)} configurations, previously every {known_every}"
                )
            if array.shape != (rows[name], self._n_chains):
                raise EnsembleError(
                    f"block: {group} {name} has shape {array.shape}, it should be {(rows[name], self._n_chains)}"
                )
            if not np.can_cast(array.dtype, dtype, "safe"):
                raise EnsembleError(
                    f"block: {group} {name} has dtype {array.dtype}, which does not fit the {dtype} of the ensemble"
                )
        return {name: array.astype(schema[f"{group}/{name}"][0], copy=False) for name, array in arrays.items()}, {
            group: schema
        }

    def _checked_fields(self, fields: np.ndarray | None, n: int) -> np.ndarray | None:
        if self._field is None or (fields is None and n == 0):
            if fields is not None:
                raise EnsembleError("block: it has fields, but this ensemble stores only series (store_fields = false)")
            return None
        shape = (n, self._n_chains, *self._field.shape)
        if fields is None or fields.shape != shape or fields.dtype != self._field.dtype:
            found = "no fields" if fields is None else f"fields of shape {fields.shape} and dtype {fields.dtype}"
            raise EnsembleError(f"block: it has {found}, they should be {shape} and {self._field.dtype}")
        return fields


def stored_dtype(name: str, values: np.ndarray) -> np.dtype:
    """The dtype stored, float64 or int64. Raises EnsembleError for other types, and for names invalid in HDF5."""
    check_name(name, "block")
    if values.dtype.kind not in "biuf":
        raise EnsembleError(f"block: {name} has dtype {values.dtype}; only numbers are stored")
    return np.dtype(np.float64 if values.dtype.kind == "f" else np.int64)
