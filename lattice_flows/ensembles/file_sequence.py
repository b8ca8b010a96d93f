"""The files of one ensemble in order: the joined file, then the segments that continue it."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import lcm, prod
from pathlib import Path

import h5py
import numpy as np

from lattice_flows.ensembles.errors import EnsembleError, MissingPartError, reading
from lattice_flows.ensembles.layout import PIECE_BYTES, Schema, multiples, segment_numbers, segment_path
from lattice_flows.ensembles.one_file import Identity, Part, TableInfo, identity_of, read_part


class Parts:
    """The parts of an ensemble in order. The file read last stays open, for callers that read block after block.

    They begin with the first configuration, or with `start` where the files before it are missing. Configurations are
    counted from 0 in any case: then the first one is that with the number `first_config`, a multiple of all intervals
    of series, so that the series still belong together.
    """

    def __init__(self, start: Part | None = None) -> None:
        self._start = {what: getattr(start, what).start if start else 0 for what in ("configs", "proposals")}
        self.parts: list[Part] = []
        self.schema: dict[str, Schema] = {}  # of the groups series and proposals, once a part has them
        self._open: tuple[Path, h5py.File] | None = None

    def append(self, part: Part) -> None:
        """Add the next part. Raises EnsembleError unless it is of this ensemble and begins where the last one ends."""
        for what in ("configs", "proposals"):
            start = getattr(self.last, what).stop if self.parts else self._start[what]
            found = getattr(part, what).start
            if found != start:
                raise EnsembleError(
                    f"{part.path}: its {what} begin at number {found}, they should begin at {start}; a file is missing"
                )
        if self.parts and part.design is not self.first.design:
            _check_same_ensemble(self.first, part)
            part = replace(part, design=self.first.design)  # one copy of the card, however many segments
        for group, n_rows in (("series", len(part.configs)), ("proposals", len(part.proposals))):
            schema = {
                path: (info.dtype, info.every) for path, info in part.tables.items() if path.startswith(f"{group}/")
            }
            if (schema or n_rows) and self.schema.setdefault(group, schema) != schema:
                raise EnsembleError(
                    f"{part.path}: /{group} holds {sorted(schema)}, the parts before it {sorted(self.schema[group])}"
                )
        self.parts.append(part)

    @property
    def first(self) -> Part:
        return self.parts[0]

    @property
    def last(self) -> Part:
        return self.parts[-1]

    @property
    def files(self) -> list[tuple[Path, Identity]]:
        return [(part.path, part.identity) for part in self.parts]

    @property
    def first_config(self) -> int:
        every = lcm(*(every for _, every in self.schema.get("series", {}).values()))
        return -(-self._start["configs"] // every) * every

    @property
    def n_configs(self) -> int:
        return max(0, self.last.configs.stop - self.first_config) if self.parts else 0

    @property
    def n_proposals(self) -> int:
        return self.last.proposals.stop - self._start["proposals"] if self.parts else 0

    @property
    def seconds(self) -> float:
        return float(sum(part.seconds for part in self.parts))

    @property
    def sha256(self) -> str:
        """The checksum of the file, or of the checksums of several."""
        sums = [part.sha256 for part in self.parts]
        return sums[0] if len(sums) == 1 else hashlib.sha256(" ".join(sums).encode()).hexdigest()

    def names(self, group: str) -> list[str]:
        return [path.partition("/")[2] for path in self.schema.get(group, {})]

    def info(self, path: str) -> TableInfo:
        """The table over all parts, with its total shape. Raises EnsembleError if there is none."""
        infos = [part.tables[path] for part in self.parts if path in part.tables]
        if not infos:
            group, _, name = path.partition("/")
            there = ", ".join(self.names(group)) or "none"
            raise EnsembleError(f"{self.first.path}: no {name!r} in /{group}; available: {there}")
        n_rows = max(0, sum(info.shape[0] for info in infos) - self._skipped(path))
        return replace(infos[0], shape=(n_rows, *infos[0].shape[1:]))

    def _skipped(self, path: str) -> int:
        """The rows of the table that come before the first configuration."""
        if self._start["configs"] == 0 or path.startswith("proposals/"):
            return 0
        every = next(part.tables[path].every for part in self.parts if path in part.tables)
        return len(multiples(self._start["configs"], self.first_config, every))

    def read(self, path: str, start: int, stop: int) -> np.ndarray:
        """Rows start to stop of the table; reads nothing else."""
        info = self.info(path)
        out = np.empty((stop - start, *info.shape[1:]), info.dtype)
        begin = -self._skipped(path)
        for part in self.parts:
            end = begin + (part.tables[path].shape[0] if path in part.tables else 0)
            low, high = max(start, begin), min(stop, end)
            if low < high:
                self._read_into(out[low - start : high - start], part, path, low - begin, high - begin)
            begin = end
        return out

    def stream(self, path: str) -> Iterator[np.ndarray]:
        """All rows of the table in order, in pieces of about 8 MiB (one row where rows are larger)."""
        info = self.info(path)
        step = max(1, PIECE_BYTES // max(1, prod(info.shape[1:]) * info.dtype.itemsize))
        for part in self.parts:
            n_rows = part.tables[path].shape[0] if path in part.tables else 0
            for low in range(0, n_rows, step):
                rows = np.empty((min(step, n_rows - low), *info.shape[1:]), info.dtype)
                self._read_into(rows, part, path, low, low + len(rows))
                yield rows

    def verify(self) -> list[str]:
        """Check each part against its checksum. Returns a line for each; raises EnsembleError naming a broken one."""
        return [part.verify() for part in self.parts]

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _read_into(self, out: np.ndarray, part: Part, path: str, start: int, stop: int) -> None:
        with reading(part.path):
            # h5py's own indexing takes three times as long
            dataset = h5py.h5d.open(self._file(part).id, path.encode())
            if part.tables[path].shape == out.shape:
                dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, out)
                return
            stored = dataset.get_space()
            stored.select_hyperslab((start, *[0] * (out.ndim - 1)), out.shape)
            dataset.read(h5py.h5s.create_simple(out.shape), stored, out)

    def _file(self, part: Part) -> h5py.File:
        if self._open is None or self._open[0] != part.path:
            self.close()
            self._open = part.path, part.opened()
        return self._open[1]


def exists(path: Path) -> bool:
    """Whether anything of the ensemble was ever committed."""
    return path.exists() or bool(segment_numbers(path))


def find_parts(path: Path, known: Iterable[Part] = ()) -> Parts:
    """The parts of NAME.h5 as they are on disk, without leftovers of a join; `known` parts that still exist are not
    read again.

    Raises EnsembleError where there is none, or one is broken or missing.
    """
    while True:
        before = _signature(path)
        try:
            return _find_parts(path, {part.path: part for part in known})
        except (EnsembleError, FileNotFoundError) as error:
            if _signature(path) != before:  # a writer joined its segments while we looked: look again
                continue
            if isinstance(error, FileNotFoundError):
                raise EnsembleError(f"{error.filename or path}: vanished while it was read") from error
            raise


def _find_parts(path: Path, known: Mapping[Path, Part]) -> Parts:
    before = _signature(path)
    parts = Parts()
    if path.exists():
        parts.append(_read(path, known))
    start = parts.last.next_segment if parts.parts else 0
    numbers = [number for number in segment_numbers(path) if number >= start]
    for expected, number in enumerate(numbers, start):
        if number != expected:
            raise MissingPartError(
                f"{segment_path(path, expected)}: missing, although {number:06d}.h5 exists; restore it; "
                "what is left can be read by `lattice-flows analyse` and `export`"
            )
        parts.append(_read(segment_path(path, number), known))
    if not parts.parts:
        raise EnsembleError(f"{path}: no such ensemble: there is neither this file nor segments")
    if _signature(path) != before:
        raise EnsembleError(f"{path}: replaced while it was read")
    return parts


def _read(path: Path, known: Mapping[Path, Part]) -> Part:
    part = known.get(path)
    return part if part is not None and part.identity == identity_of(path) else read_part(path)


def _signature(path: Path) -> Identity | None:
    try:
        return identity_of(path)
    except OSError:  # there is none, or it cannot be reached
        return None


def _check_same_ensemble(first: Part, part: Part) -> None:
    same = {
        "attributes": repr(first.design.header) == repr(part.design.header),
        "field": first.design.field == part.design.field,
        "chains": first.design.chains == part.design.chains,
        "choice of storing fields": first.design.store_fields == part.design.store_fields,
        "compression": first.design.compression == part.design.compression,
    }
    for what, equal in same.items():
        if not equal:
            raise EnsembleError(f"{part.path}: its {what} differ from those of {first.path}: it is of another ensemble")
