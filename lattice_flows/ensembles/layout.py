"""The schema of an ensemble file: names, attributes, axes, chunks.

/            attributes: the caller's header and those of `RESERVED`
/config /chain /mu /x0 ... /config_every_k /proposal      the axes, as dimension scales
/fields/NAME       (config, chain, *event)
/series/NAME       (config, chain), or (config_every_k, chain) with the attribute every = k
/proposals/NAME    (proposal, chain)
/state/...         what a resume needs; its axes are /state/length_n
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from lattice_flows.ensembles.errors import EnsembleError

FORMAT = "lattice_flows ensemble"
SCHEMA_VERSION = 1

# Attributes set by this package, never by the caller. `shape` is that of the lattice; `next_segment` is the number of
# the segment that goes on where the file ends: it tells leftovers of a join (lower numbers) from the continuation.
RESERVED = frozenset(
    {
        "format",
        "schema_version",
        "shape",
        "field",
        "field_dims",
        "field_shape",
        "field_dtype",
        "first_chain",
        "n_chains",
    }
    | {"first_config", "n_configs", "first_proposal", "n_proposals", "next_segment", "seconds", "sha256"}
    | {"compression", "header_sha256"}
)
ADDED = frozenset({"compression", "header_sha256"})  # what the first files of this version do not have yet

COMPRESSIONS = ("none", "gzip")  # of the fields; gzip is shuffle and level 4, which any HDF5 reads

CHUNK_BYTES = 1 << 20  # the largest chunk; what is smaller is stored in one piece
PIECE_BYTES = 8 << 20  # what is read at once where memory must stay bounded

Schema = dict[str, tuple[np.dtype, int]]  # of one group: path -> dtype, every

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class FieldSpec:
    """The schema of /fields: the name, axis names, shape and dtype of ONE configuration of one chain.

    >>> FieldSpec("theta", ("mu", "x0", "x1"), (2, 16, 16)).lattice_shape
    (16, 16)
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str = "float64"

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", tuple(self.dims))
        object.__setattr__(self, "shape", tuple(int(length) for length in self.shape))
        object.__setattr__(self, "dtype", np.dtype(self.dtype).name)
        if len(self.dims) != len(self.shape) or len(set(self.dims)) != len(self.dims) or min(self.shape, default=1) < 1:
            raise EnsembleError(
                f"field {self.name}: axes {self.dims} do not fit the shape {self.shape}; each axis needs its own name"
            )
        for name in (self.name, *self.dims):
            check_name(name, "field")
        taken = {"config", "chain", "proposal", "fields", "series", "proposals", "state"}
        if taken & set(self.dims) or any(name.startswith("config_every_") for name in self.dims):
            raise EnsembleError(f"field {self.name}: the axes {self.dims} use a reserved name; choose others")
        if np.dtype(self.dtype).kind not in "iuf":
            raise EnsembleError(f"field {self.name}: dtype {self.dtype} cannot be stored; use integers or floats")

    @property
    def lattice_shape(self) -> tuple[int, ...]:
        """Lengths of the axes x0, x1, ...; () if no axis has such a name: there is no lattice."""
        return tuple(length for name, length in zip(self.dims, self.shape) if re.fullmatch(r"x\d+", name))


@dataclass(frozen=True)
class Block:
    """The output of a sampler since the last block: n configurations of B chains.

    The arrays are handed over, not copied: they must not be changed after the block was appended.

    series     name -> (n, B), float64 or int64. With ``every[name] = k`` only the rows of the configurations whose
               number, counted over the whole ensemble, is a multiple of k (see `multiples`).
    every      name -> k, for the series that are not measured on each configuration.
    fields     (n, B, *event), or None where the ensemble keeps the series alone.
    proposals  name -> (m, B), any m >= 0, the same for all names.
    """

    series: Mapping[str, np.ndarray]
    every: Mapping[str, int] = field(default_factory=dict)
    fields: np.ndarray | None = None
    proposals: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_configs(self) -> int:
        """n, from the fields or a series measured on each configuration; 0 if there is neither series nor field."""
        if self.fields is not None:
            return len(self.fields)
        for name, values in self.series.items():
            if self.every.get(name, 1) == 1:
                return len(values)
        if self.series:
            raise EnsembleError(
                "a block without fields needs a series that is measured on each configuration, to count them"
            )
        return 0


def multiples(start: int, stop: int, every: int) -> np.ndarray:
    """The multiples of `every` in [start, stop), int64: the configurations on which such a series is measured."""
    return np.arange(-(-start // every) * every, stop, every, dtype=np.int64)


def n_multiples(start: int, stop: int, every: int) -> int:
    """How many `multiples` there are."""
    return max(0, -(-stop // every) - -(-start // every))


def config_axis(every: int) -> str:
    return "config" if every == 1 else f"config_every_{every}"


def check_name(name: str, what: str) -> None:
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise EnsembleError(f"{what}: {name!r} is not a valid name for HDF5; use letters, digits and _ . + -")


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Chunks of at most 1 MiB, cut along the leading axes first; one chunk where the whole is no larger than that."""
    if prod(shape) * itemsize <= CHUNK_BYTES:
        return shape
    chunk = list(shape)
    for axis, length in enumerate(shape):
        rest = prod(shape[axis + 1 :]) * itemsize
        n_chunks = -(-length // max(1, CHUNK_BYTES // rest))
        chunk[axis] = -(-length // n_chunks)  # equal chunks, so that the last one is not mostly empty
        if chunk[axis] * rest <= CHUNK_BYTES:
            break
    return tuple(chunk)


def joined_path(path: str | Path) -> Path:
    """NAME.h5, also where the folder NAME.segments is given. Raises EnsembleError for any other name."""
    path = Path(path)
    if path.suffix == ".segments":
        return path.with_suffix(".h5")
    if path.suffix != ".h5":
        raise EnsembleError(f"{path}: an ensemble is named NAME.h5, also while it is still NAME.segments")
    return path


def segments_folder(path: Path) -> Path:
    return path.with_suffix(".segments")


def segment_path(path: Path, number: int) -> Path:
    return segments_folder(path) / f"{number:06d}.h5"


def segment_numbers(path: Path) -> list[int]:
    """Numbers of the segments in the folder of NAME.h5, in order; temporary and foreign files are ignored."""
    folder = segments_folder(path)
    if not folder.is_dir():
        return []
    try:
        return sorted(int(entry.stem) for entry in folder.iterdir() if re.fullmatch(r"\d{6,}\.h5", entry.name))
    except FileNotFoundError:  # joined between the two looks
        return []
