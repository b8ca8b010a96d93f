"""The files of an import: each holds one chain or several, whose configurations are read block by block."""

import glob
import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lattice_flows.ensembles import FieldSpec
from lattice_flows.errors import InputError
from lattice_flows.interchange.arrays import FileArray, OnePerFile, open_array, path_and_name
from lattice_flows.interchange.axes import CHAIN, CONFIG, Axes, in_order, is_of_lattice
from lattice_flows.production.foreign_numbers import ForeignNumbers, NotVariables
from lattice_flows.statistics import MIN_LENGTH
from lattice_flows.terminal.interrupt import StopRequest

_PIECE_BYTES = 16 << 20


@dataclass(frozen=True)
class Source:
    """An array of one or more chains; `files` are those that it was read from, `in_file` is the order of its axes."""

    files: tuple[Path, ...]
    array: FileArray
    in_file: tuple[str, ...]
    field: FieldSpec

    @property
    def label(self) -> str:
        """What messages call it."""
        return str(self.files[0]) if len(self.files) == 1 else f"{self.files[0]} ... {self.files[-1].name}"

    @property
    def n_configs(self) -> int:
        """Configurations of each chain."""
        return self.array.shape[self.in_file.index(CONFIG)]

    @property
    def n_chains(self) -> int:
        """The number of chains."""
        return self.array.shape[self.in_file.index(CHAIN)] if CHAIN in self.in_file else 1

    @property
    def lattice_shape(self) -> tuple[int, ...]:
        """The extents of the lattice, () without one."""
        return tuple(self.array.shape[self.in_file.index(axis)] for axis in self.field.dims if is_of_lattice(axis))

    @property
    def row_bytes(self) -> int:
        """Memory of one configuration of all chains in double precision."""
        return 8 * math.prod(self.array.shape) // self.n_configs

    def read(self, start: int, stop: int, numbers: ForeignNumbers) -> np.ndarray:
        """The configurations start ... stop - 1 as variables (n, B, *event); angles are not wrapped.

        Raises InputError that names the first configuration with other numbers.
        """
        slices = tuple(slice(start, stop) if axis == CONFIG else slice(None) for axis in self.in_file)
        try:
            block = np.asarray(self.array[slices])
        except InputError:
            raise
        except Exception as error:  # whatever HDF5 makes of broken bytes
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{self.label}: cannot be read ({reason})") from None
        try:
            return numbers.read(in_order(block, self.in_file, self.field))
        except NotVariables as bad:
            if len(self.files) > 1:
                raise InputError(f"{self.files[start + bad.config]}: {bad.what}") from None
            colon = "" if bad.what.startswith("holds") else ":"
            raise InputError(
                f"{self.label}: configuration {start + bad.config}, chain {bad.chain}{colon} {bad.what}"
            ) from None


def open_sources(
    paths: Sequence[Path], axes: Axes, numbers: ForeignNumbers, shorten: bool, stack: ExitStack
) -> tuple[list[Source], int]:
    """The sources, open until the stack is closed, and the number of configurations that is taken of each.

    A path may be a pattern such as 'conf.*.npy'. Where each file is one configuration, all of them in natural numeric
    order are one source. Raises InputError for arrays that do not fit, or not one another.
    """
    files = [file for path in paths for file in _matches(path)]
    if not files:
        raise InputError("import: give one or more files")
    if axes.one_per_file:
        files.sort(key=_naturally)
        sources = [_source(tuple(files), OnePerFile(files), axes, numbers)]
    else:
        sources = [_source((file,), open_array(file, stack), axes, numbers) for file in files]
    _require_one_lattice(sources)
    return sources, common_length([(source.label, source.n_configs) for source in sources], shorten)


def _matches(path: Path) -> list[Path]:
    """The path, or what matches it if it is a pattern of which the shell has made nothing."""
    found = [] if path_and_name(path)[0].exists() else sorted(map(Path, glob.glob(str(path))), key=_naturally)
    return found or [path]


def _naturally(path: Path) -> list[tuple[int, int | str]]:
    """The order in which conf.9 stands before conf.10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", str(path)) if part]


def _source(files: tuple[Path, ...], array: FileArray, axes: Axes, numbers: ForeignNumbers) -> Source:
    try:
        numbers.check_type(array.dtype)
    except ValueError as error:
        raise InputError(f"{files[0]}: {error}") from None
    source = Source(files, array, axes.of(array.shape, files[0]), axes.field)
    if source.n_configs < MIN_LENGTH:
        raise InputError(f"{source.label}: {source.n_configs} configurations; at least {MIN_LENGTH} are needed")
    return source


def _require_one_lattice(sources: Sequence[Source]) -> None:
    first = sources[0]
    for other in sources:
        if other.lattice_shape != first.lattice_shape:
            found, wanted = (" x ".join(map(str, one.lattice_shape)) for one in (other, first))
            raise InputError(f"{other.label}: lattice {found}, but {first.label} has {wanted}; all files must agree")


def common_length(lengths: Sequence[tuple[str, int]], shorten: bool) -> int:
    """How many configurations all of these sources, (label, length), have.

    Raises InputError if they differ and are not to be shortened.
    """
    (first, n), *others = lengths
    shortest = min(length for _, length in lengths)
    for other, length in others:
        if length != n and not shorten:
            raise InputError(
                f"{other}: configurations {length}, but {first} has {n}; import them under one name into folders of "
                f"their own and analyse these files together, or give --shorten to take the first {shortest} of each"
            )
    return shortest


def blocks(
    sources: Sequence[Source], n_configs: int, numbers: ForeignNumbers, block_bytes: int
) -> Iterator[np.ndarray]:
    """The first n_configs configurations of all chains in blocks (n, B, *event); angles are not wrapped."""
    step = max(1, block_bytes // sum(source.row_bytes for source in sources))
    for start in range(0, n_configs, step):
        stop = min(start + step, n_configs)
        parts = [source.read(start, stop, numbers) for source in sources]
        yield np.ascontiguousarray(np.concatenate(parts, axis=1))


def sha256_of(sources: Sequence[Path], stop: StopRequest) -> str:
    """The sha256 of the bytes of these files, one after another."""
    digest = hashlib.sha256()
    for source in sources:
        with path_and_name(source)[0].open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                stop.raise_if_set()
    return digest.hexdigest()
