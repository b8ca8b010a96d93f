"""What may be wrong with the file that a command reads: each function changes a Place before the run."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from odd_files import make_odd
from stress.place import Place

from lattice_flows.ensembles.checksum import content_sha256

_LARGEST = 1 << 28  # bytes; what is larger has holes


def odd_subject(kind: str) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        path = place.file
        _remove(path)
        make_odd(kind, path)

    return prepare


def content_by(change: Callable[[Place, bytes], bytes]) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        path = place.file
        if path.is_file() and path.stat().st_size < _LARGEST:
            path.write_bytes(change(place, path.read_bytes()))

    return prepare


def truncated(place: Place, content: bytes) -> bytes:
    return content[: place.rng.randrange(len(content) + 1)]


def flipped(place: Place, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(place.rng.choice([1, 1, 3, 100]) if content else 0):
        changed[place.rng.randrange(len(content))] ^= place.rng.randrange(1, 256)
    return bytes(changed)


def overwritten(place: Place, content: bytes) -> bytes:
    at, n = place.rng.randrange(len(content) + 1), place.rng.choice([16, 512, 4096])
    filling = bytes(n) if place.rng.random() < 0.5 else place.rng.randbytes(n)
    return content[:at] + filling + content[at + n :]


def shuffled(place: Place, content: bytes) -> bytes:
    """Lines in another order, twice, or not at all: for what is text."""
    lines = content.splitlines(keepends=True)
    return b"".join(place.rng.choices(lines, k=len(lines))) if lines else b""


_NUMPY = b"\x93NUMPY\x01\x00\x76\x00{'descr': '%b', 'fortran_order': False, 'shape': (%b, 2, 4, 6), }\n"
_FOREIGN = {
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(200),
    "an archive": b"PK\x03\x04" + bytes(200),
    "zeros": bytes(100_000),
    "a sentence": "Dies ist kein Ensemble, größer.\n".encode(),
    "latin-1": "seed = 1 # größer\n".encode("latin-1"),
    "a pickle": b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
    "a nest": b"x = " + b"[" * 100_000,
    "JSON": b'{"theory": [], "stages": 1, "scheduler": "slurm", "directory": 3}',
    "numpy's header": _NUMPY % (b"<f8", b"1000000000000"),
    "numpy's objects": _NUMPY % (b"|O", b"3") + bytes(99),
    "HDF5's signature": b"\x89HDF\r\n\x1a\n" + bytes(300),
    "a byte order mark": b"\xff\xfes\x00e\x00e\x00d\x00",
}


def foreign(place: Place, content: bytes) -> bytes:
    """Something else in place of it."""
    return _FOREIGN[place.rng.choice(sorted(_FOREIGN))]


def other_hdf5(place: Place) -> None:
    _remove(place.folder / place.subject)
    with h5py.File(place.folder / place.subject, "w") as file:
        file["data"] = range(10)


_HEADERS: dict[str, list[object]] = {
    "schema_version": [0, 99, "1", -1, 2.5],
    "format": ["", "another", 3],
    "n_configs": [0, -1, 41, 39, 2**62, "40", 1.5],
    "first_chain": [-1, 2**62, "x", 7],
    "theory": ["", "{", "[]", '{"name": "u1"}', '{"name": "of_a_newer_version", "shape": [4, 6]}'],
    "sampler": ["", "{}", "[1]", '{"name": "newer"}', '{"sampler": 3}'],
    "shape": [[4, 4], [], [6, 4], [-1, 6], "x", [2**40, 2**40], 4],
    "seed": [-1, "x", 2.5, 2**63 - 1],
    "threads": [0, -3, "many"],
    "card": ["", np.bytes_(b"a\x00b"), "seed = [", "x" * 50_000],
    "observables": ["", "{", "[3]", '[{"name": "newer_observable"}]', '[{"name": "wilson_loop", "r": -1, "t": "x"}]'],
    "created": ["", "yesterday", 3],
    "software": ["", "{", 3],
    "\x1b[31mnew": ["[bold]$x_{"],
}


def contradiction(place: Place) -> None:
    """A header, or data, that cannot be; its checksum says that all is well."""
    with h5py.File(place.folder / place.subject, "r+") as file:
        for _ in range(place.rng.choice([1, 1, 2])):
            name = place.rng.choice([*_HEADERS, "without", "data"])
            if name == "without":
                del file.attrs[place.rng.choice(sorted(file.attrs))]
            elif name == "data":
                _contradict_data(place, file)
            else:
                file.attrs[name] = place.rng.choice(_HEADERS[name])
        try:
            file.attrs["sha256"] = content_sha256(file)
        except Exception:
            file.attrs["sha256"] = "0" * 64


def _contradict_data(place: Place, file: h5py.File) -> None:
    names: list[str] = []
    file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    name = place.rng.choice(sorted(names))
    values = file[name][()]
    kind = place.rng.choice(["gone", "nan", "type", "group", "short"])
    if kind == "nan" and getattr(values, "dtype", None) == np.float64 and values.size:
        file[name][...] = place.rng.choice([float("nan"), float("inf"), 1e300])
        return
    del file[name]
    if kind == "type":
        file[name] = "a word"
    elif kind == "group":
        file.create_group(name)
    elif kind == "short" and getattr(values, "ndim", 0):
        file[name] = values[: len(values) // 2]


_NAMES = ["[bold]", "$x_{", "a\nb", "\x1b[31mred", "-x", "--help", "%s%d", "x" * 240, " ", "~", "ü\u202e"]
_NAMES += [os.fsdecode(b"\xff\xfe")]


def another_name(place: Place) -> None:
    """The subject under another name."""
    old = place.folder / place.subject
    suffix = "" if old.is_dir() else old.suffix
    new = place.rng.choice(_NAMES) + suffix
    if len(os.fsencode(new)) > 250 or "segments" in place.subject:
        return
    old.rename(place.folder / new)
    place.rename(place.subject, new if not new.startswith(("-", "~")) else f"./{new}")


def removed(place: Place) -> None:
    _remove(place.file)


def sparse(place: Place) -> None:
    with place.file.open("r+b") as file:
        file.truncate(1 << 40)


def linked(place: Place) -> None:
    """A link to it, elsewhere, in the place of it: no matter."""
    path = place.folder / place.subject
    moved = place.folder / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)
    place.changes += [
        moved.name + one.removeprefix(place.subject) for one in place.changes if one.startswith(place.subject)
    ]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()
