"""Reading an ensemble, and the entry points for writing one."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lattice_flows.ensembles.add_series import add_series
from lattice_flows.ensembles.errors import EnsembleError, MissingPartError
from lattice_flows.ensembles.file_sequence import Parts, exists, find_parts
from lattice_flows.ensembles.layout import FORMAT, SCHEMA_VERSION, FieldSpec, joined_path, multiples
from lattice_flows.ensembles.remains import find_remains
from lattice_flows.ensembles.writer import EnsembleWriter


class Ensemble:
    """The stored configurations of B Markov chains: ``NAME.h5``, ``NAME.segments/``, or both, read as one.

    `Ensemble.open` shows what was committed up to then; `refresh` adds what was committed since. Data are read only on
    demand, and whatever is read is checked: attributes at opening, data against their fletcher32; so a flipped byte is
    an EnsembleError, never a number. `verify` checks every byte against the stronger sha256.

        with Ensemble.open("ensembles/hmc.h5") as ensemble:
            plaquette = ensemble.series("plaquette")        # (n_configs, n_chains)
    """

    def __init__(self, path: Path, parts: Parts, loss: str = "") -> None:
        self.path = path
        self._parts = parts
        self.loss = loss  # in words; empty unless files are missing, see `open_remains`

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open NAME.h5 for reading, also while it is still NAME.segments. Needs no lock.

        Raises EnsembleError where there is nothing, or a file is broken, foreign or missing.
        """
        path = joined_path(path)
        return cls(path, find_parts(path))

    @classmethod
    def open_remains(cls, path: str | Path) -> Self:
        """Open what is left of an ensemble, for reading: all of it, as `open` does, or if files are missing the piece
        without a gap that has most configurations. They are counted from 0, and `loss` says which of them they were.

        Raises EnsembleError where there is nothing, or a file is broken or foreign.
        """
        path = joined_path(path)
        try:
            return cls(path, find_parts(path))
        except MissingPartError:
            try:
                return cls(path, *find_remains(path))
            except FileNotFoundError as error:
                raise EnsembleError(f"{error.filename or path}: vanished while it was read") from error

    @staticmethod
    def create(
        path: str | Path,
        *,
        header: Mapping[str, str | int | float],
        chains: range,
        field: FieldSpec,
        store_fields: bool,
        compression: str = "none",
    ) -> EnsembleWriter:
        """A writer of a new ensemble NAME.h5 with the chains of these numbers, ``range(first_chain, first_chain +
        n_chains)``.

        `header` becomes root attributes: theory, sampler, card, seed, versions and the like. `compression` is that of
        the fields, "none" or "gzip" (with shuffle, level 4); a resume keeps it. Nothing is on disk before the first
        commit. Raises EnsembleError if the ensemble exists, the header uses a name of the schema or the compression is
        unknown, LockedError if another process writes it.
        """
        return EnsembleWriter.create(joined_path(path), header, chains, field, store_fields, compression)

    @staticmethod
    def resume(path: str | Path) -> EnsembleWriter:
        """A writer that continues after the last commit, of an interrupted ensemble or of a finished one.

        Raises EnsembleError as `open` does, and if the last segment fails its checksum; LockedError if another process
        writes it.
        """
        return EnsembleWriter.resume(joined_path(path))

    @staticmethod
    def add_series(
        path: str | Path,
        series: Mapping[str, np.ndarray],
        every: Mapping[str, int],
        header: Mapping[str, str | int | float],
    ) -> None:
        """Rewrite a finished ensemble with more series and other header attributes, completely or not at all.

        series  name -> (n, B), n as in `Block`: n_configs, or fewer for those that `every` names. Stored as float64 or
                int64. NaN and inf are numbers here.
        header  attributes that are added or changed; all others are kept.

        After a resume, appended blocks must hold the new series too. Needs little memory, whatever the size, and room
        on the disk for a second file. Raises EnsembleError if a series exists or does not fit, the ensemble is
        unfinished or damaged, or the disk is full; LockedError if another process writes it.
        """
        add_series(joined_path(path), series, every, header)

    @staticmethod
    def exists(path: str | Path) -> bool:
        """Whether anything was ever committed: then `resume`, else `create`."""
        return exists(joined_path(path))

    def refresh(self) -> bool:
        """Add what was committed since: segments, or the file that joins them. Returns True if there is anything new.

        Looks at the names and times of the known files and reads only the others. Raises EnsembleError as `open` does;
        nothing changes in that case.
        """
        found = find_parts(self.path, known=self._parts.parts)
        if found.files == self._parts.files:
            return False
        self._parts.close()
        self._parts = found
        return True

    @property
    def attributes(self) -> dict[str, Any]:
        """The header, and format, schema_version, compression (of the fields), shape (of the lattice), first_chain,
        n_chains, n_configs, seconds; and `loss`, where files are missing.
        """
        return {
            **self._parts.first.design.header,
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "compression": self._parts.first.design.compression,
            "shape": self.field.lattice_shape,
            "first_chain": self.first_chain,
            "n_chains": self.n_chains,
            "n_configs": self.n_configs,
            "seconds": self.seconds,
            **({"loss": self.loss} if self.loss else {}),
        }

    def header(self, name: str) -> Any:
        """The value of an attribute given to `create`, or None."""
        return self._parts.first.design.header.get(name)

    @property
    def field(self) -> FieldSpec:
        return self._parts.first.design.field

    @property
    def n_configs(self) -> int:
        """Configurations per chain."""
        return self._parts.n_configs

    @property
    def n_chains(self) -> int:
        return len(self._parts.first.design.chains)

    @property
    def first_chain(self) -> int:
        return self._parts.first.design.chains.start

    @property
    def seconds(self) -> float:
        """Production seconds, summed over all commits."""
        return self._parts.seconds

    @property
    def sha256(self) -> str:
        """The checksum of all that is committed, as it is recorded; `verify` recomputes it."""
        return self._parts.sha256

    @property
    def finished(self) -> bool:
        """Whether all is joined in NAME.h5; segments mean that a run is going on or was interrupted."""
        return self._parts.last.path == self.path

    @property
    def has_fields(self) -> bool:
        return self._parts.first.design.store_fields

    @property
    def series_names(self) -> list[str]:
        return self._parts.names("series")

    @property
    def proposal_names(self) -> list[str]:
        return self._parts.names("proposals")

    def series(self, name: str, last: int | None = None) -> np.ndarray:
        """The series, (n, B), or only its `last` rows.

        n is n_configs, or the length of `series_configs` for one that is measured less often.
        """
        return self._rows(f"series/{name}", last)

    def every(self, name: str) -> int:
        """The interval of the series: it was measured on the configurations whose number is a multiple of this."""
        return self._parts.info(f"series/{name}").every

    def series_configs(self, name: str) -> np.ndarray:
        """Numbers of the configurations that the rows of the series belong to, (n,) int64."""
        return multiples(0, self.n_configs, self.every(name))

    def configs(self, start: int, stop: int) -> np.ndarray:
        """Configurations start to stop of all chains, (stop - start, B, *event); reads only these."""
        if not self.has_fields:
            raise EnsembleError(f"{self.path}: stores only series; fields are stored with store_fields = true")
        if not 0 <= start <= stop <= self.n_configs:
            raise EnsembleError(f"{self.path}: holds the configurations 0 to {self.n_configs}, not {start} to {stop}")
        return self._parts.read(f"fields/{self.field.name}", start, stop)

    def blocks(self, n_bytes: int) -> Iterator[tuple[int, np.ndarray]]:
        """All configurations in consecutive blocks of about n_bytes: the number of the first one, and the block."""
        row = self.n_chains * math.prod(self.field.shape) * np.dtype(self.field.dtype).itemsize
        step = max(1, n_bytes // row)
        for start in range(0, self.n_configs, step):
            yield start, self.configs(start, min(start + step, self.n_configs))

    def proposals(self, name: str, last: int | None = None) -> np.ndarray:
        """The values of every proposal, accepted or not, (m, B), or only their `last` rows."""
        return self._rows(f"proposals/{name}", last)

    def _rows(self, path: str, last: int | None) -> np.ndarray:
        n = self._parts.info(path).shape[0]
        return self._parts.read(path, 0 if last is None else max(0, n - last), n)

    def state(self) -> dict[str, np.ndarray]:
        """The state at the last commit, by name ("latent/x" for an array in a group); scalars have the shape ()."""
        return self._parts.last.state()

    def verify(self) -> list[str]:
        """Recompute every checksum. Returns a line for each file; raises EnsembleError naming a broken one, or if files
        are missing and the others are whole.
        """
        lines = self._parts.verify()
        if self.loss:
            raise EnsembleError(f"{self.path}: {self.loss}; the {len(lines)} files that hold these are whole")
        return lines

    def close(self) -> None:
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
