"""Arrays in files of other programs: .npy, .npz, HDF5 datasets, and many files of one configuration each.

None is read into memory as a whole.
"""

import math
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Protocol

import h5py
import numpy as np

from lattice_flows.errors import InputError, nothing_at
from lattice_flows.production.foreign_numbers import mapped_npy
from lattice_flows.regular_files import require_regular

_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
_PIECE_BYTES = 16 << 20
_MOST_NAMED = 8


class FileArray(Protocol):
    """An array in a file, of which slices are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""

    @property
    def dtype(self) -> np.dtype:
        """The type of its numbers in the file."""

    def __getitem__(self, slices: tuple[slice, ...]) -> Any:
        """These rows, columns, ... as an array of numpy."""


def path_and_name(source: Path) -> tuple[Path, str]:
    """The file, and the name of an array in it: FILE.h5:/path/to/dataset, FILE.npz:name; "" where none is given."""
    file, colon, name = str(source).rpartition(":")
    return (Path(file), name) if colon and file and not source.exists() else (source, "")


def open_array(source: Path, stack: ExitStack) -> FileArray:
    """The array at FILE or FILE:NAME, which stays readable until the stack is closed.

    What a file is, its first bytes say. Raises InputError for anything but an array of numbers.
    """
    path, name = path_and_name(source)
    first = _first_bytes(path)
    if first.startswith(_HDF5):
        return _dataset(path, name, stack)
    if first.startswith(_ZIP):
        return _archived(path, name, stack)
    if name:
        raise InputError(f"{path}: is neither an HDF5 file nor an .npz archive, so there is no {name!r} in it")
    if not first.startswith(np.lib.format.MAGIC_PREFIX):
        raise InputError(
            f"{path}: not an .npy file of numbers, nor .npz or HDF5; for columns of text give --series and --shape"
        )
    return mapped_npy(path)


def _first_bytes(path: Path) -> bytes:
    try:
        require_regular(path)
        with path.open("rb") as file:
            return file.read(len(_HDF5))
    except OSError as error:
        raise nothing_at(path, error.strerror or "cannot be read") from None


def _dataset(path: Path, name: str, stack: ExitStack) -> h5py.Dataset:
    try:
        file = stack.enter_context(h5py.File(path, "r"))
        found: list[str] = []
        if not name:
            file.visititems(lambda key, item: found.append(f"/{key}") if isinstance(item, h5py.Dataset) else None)
        dataset = file.get(name or _only(path, found))
    except InputError:
        raise
    except Exception as error:  # whatever HDF5 makes of broken bytes
        raise _unreadable(path, error) from None
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{path}: holds no dataset {name!r}")
    return dataset


def _archived(path: Path, name: str, stack: ExitStack) -> np.ndarray:
    """An array of an .npz archive, unpacked into a file that has no name and so is never left behind."""
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
        names = [entry.removesuffix(".npy") for entry in archive.namelist() if entry.endswith(".npy")]
        if not names:
            raise InputError(f"{path}: holds no array; give an .npz archive of numpy")
        chosen = name or _only(path, names)
        if chosen not in names:
            raise InputError(f"{path}: holds no array {chosen!r}; it holds {_listed(names)}")
        unpacked = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        with archive.open(f"{chosen}.npy") as member:
            shutil.copyfileobj(member, unpacked, _PIECE_BYTES)
        return _mapped(unpacked)
    except (InputError, OSError):
        raise
    except Exception as error:  # whatever zipfile and numpy make of broken bytes
        raise _unreadable(path, error) from None


def _mapped(file: IO[bytes]) -> np.ndarray:
    """The array of numbers in an open .npy file, mapped into memory."""
    file.flush()
    file.seek(0)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("holds Python objects")
    if math.prod(shape) == 0:
        return np.zeros(shape, dtype)
    order = "F" if is_fortran else "C"
    return np.memmap(file, dtype, "r", offset=file.tell(), shape=shape, order=order)  # type: ignore[call-overload]


def _only(path: Path, names: Sequence[str]) -> str:
    """The only name. Raises InputError that lists several."""
    if len(names) != 1:
        raise InputError(f"{path}: holds {_listed(names)}; say which, as {path}:{names[0] if names else 'NAME'}")
    return names[0]


def _listed(names: Sequence[str]) -> str:
    """ "a, b and 7 others", or that there is none."""
    shown = ", ".join(names[:_MOST_NAMED]) or "no array"
    return shown if len(names) <= _MOST_NAMED else f"{shown} and {len(names) - _MOST_NAMED} others"


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path}: cannot be read ({reason})")


class OnePerFile:
    """Files of one configuration each as one array, with the axis of configurations in front.

    Raises InputError for files of another shape or type than the first.
    """

    def __init__(self, sources: Sequence[Path]) -> None:
        self._sources = tuple(sources)
        shapes: dict[tuple[tuple[int, ...], np.dtype], Path] = {}
        for source in sources:
            with ExitStack() as stack:
                array = open_array(source, stack)
                shapes.setdefault((array.shape, array.dtype), source)
        (one, first), *others = shapes.items()
        for (shape, dtype), other in others:
            raise InputError(
                f"{other}: holds {dtype} of the shape {shape}, but {first} holds {one[1]} of {one[0]}; "
                "all configurations must agree"
            )
        self.shape, self.dtype = (len(sources), *one[0]), one[1]

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        configs, *rest = slices
        rows = []
        for source in self._sources[configs]:
            with ExitStack() as stack:
                rows.append(np.array(open_array(source, stack)[tuple(rest)]))
        return np.stack(rows)
