"""What a command may meet: odd files, odd targets, odd surroundings, odd names. Each changes a Place before the run."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from odd_files import ODD, make_odd
from stress.place import Place

from lattice_flows.ensembles.checksum import content_sha256


@dataclass(frozen=True)
class Situation:
    """
    prepare  changes the place
    of       what a command must have for it: "subject", "target", or ""
    suffix   which subject it is for; "" for any
    afresh   whether it is met while a process starts, so that a fork of a running one would not meet it
    """

    prepare: Callable[[Place], None]
    of: str = ""
    suffix: str = ""
    afresh: bool = False
    weight: int = 1


_LARGEST = 1 << 28  # bytes; what is larger has holes


def _odd_subject(kind: str) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        path = place.file
        _remove(path)
        make_odd(kind, path)

    return prepare


def _odd_target(kind: str) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        make_odd(kind, place.folder / place.target)

    return prepare


def _content(change: Callable[[Place, bytes], bytes]) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        path = place.file
        if path.is_file() and path.stat().st_size < _LARGEST:
            path.write_bytes(change(place, path.read_bytes()))

    return prepare


def _truncated(place: Place, content: bytes) -> bytes:
    return content[: place.rng.randrange(len(content) + 1)]


def _flipped(place: Place, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(place.rng.choice([1, 1, 3, 100]) if content else 0):
        changed[place.rng.randrange(len(content))] ^= place.rng.randrange(1, 256)
    return bytes(changed)


def _overwritten(place: Place, content: bytes) -> bytes:
    at, n = place.rng.randrange(len(content) + 1), place.rng.choice([16, 512, 4096])
    filling = bytes(n) if place.rng.random() < 0.5 else place.rng.randbytes(n)
    return content[:at] + filling + content[at + n :]


def _shuffled(place: Place, content: bytes) -> bytes:
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


def _other_hdf5(place: Place) -> None:
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
    "card": ["", "\x00", "seed = [", "x" * 50_000],
    "observables": ["", "{", "[3]", '[{"name": "newer_observable"}]', '[{"name": "wilson_loop", "r": -1, "t": "x"}]'],
    "created": ["", "yesterday", 3],
    "software": ["", "{", 3],
    "\x1b[31mnew": ["[bold]$x_{"],
}


def _contradiction(place: Place) -> None:
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


def _victim(place: Place) -> None:
    """Something of somebody else's at the target, or behind a link there."""
    victim = place.folder / "victim"
    victim.write_text("not yours")
    kind = place.rng.choice(["file", "link", "in the folder", "temporary", "lock"])
    target = place.folder / place.target
    if kind == "file":
        target.write_text("not yours")
    elif kind == "link":
        target.symlink_to("victim")
    elif kind == "in the folder":
        target.mkdir()
        for name in ("index.html", "notes", "summary.json", "card.toml"):
            (target / name).write_text("not yours")
    elif kind == "temporary":
        (place.folder / f"{place.target}.tmp").symlink_to("victim")
        (place.folder / f".{place.target}.0123abcd.tmp").symlink_to("victim")
        (place.folder / f"{place.target}.0123abcd.tmp").mkdir()
    else:
        target.with_suffix(".lock").symlink_to("victim")


def _dangling(place: Place) -> None:
    (place.folder / place.target).symlink_to("nowhere/at/all")


def _elsewhere(names: list[str]) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        name = place.rng.choice(names)
        place.rename(place.target, name.replace("TARGET", place.target))

    return prepare


_PLACES = ["/dev/full", "card.toml/TARGET", "no/such/TARGET", "/proc/TARGET", "x" * 300 + "TARGET", "TARGET/", "e.h5"]
_PLACES += ["parts.h5", ".", "..", "", "~nobody-at-all/TARGET", "a\nb\x1b[31mTARGET", "[bold]$x_{TARGET"]
_PLACES += ["/dev/null/TARGET"]
_NAMES = ["[bold]", "$x_{", "a\nb", "\x1b[31mred", "-x", "--help", "%s%d", "x" * 240, " ", "~", "ü\u202e"]
_NAMES += [os.fsdecode(b"\xff\xfe")]
_OUTCOMES = ["", "victim", "pipe", "cycle", ".", "/", "/dev/full", "no/such/folder/x", "card.toml/x", "x" * 300, "e.h5"]
_OUTCOMES += ["new", "/dev/stdout"]


def _name(place: Place) -> None:
    """The subject under another name."""
    old = place.folder / place.subject
    suffix = "" if old.is_dir() else old.suffix
    new = place.rng.choice(_NAMES) + suffix
    if len(os.fsencode(new)) > 250 or "segments" in place.subject:
        return
    old.rename(place.folder / new)
    place.rename(place.subject, new if not new.startswith(("-", "~")) else f"./{new}")


def _lock_held(place: Place) -> None:
    """Another process writes it, or says so."""
    path = (place.folder / (place.subject or "e.h5")).with_suffix(".lock")
    kind = place.rng.choice(["held", "folder", "foreign", "pipe", "link"])
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        (place.folder / "victim").write_text("not yours")
        path.symlink_to("victim")
    else:
        path.write_text("somebody else's words\n" if kind == "foreign" else "")
    if kind == "held":
        import fcntl

        descriptor = os.open(path, os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        place.after.append(lambda: os.close(descriptor))
        place.within.append(lambda: os.close(descriptor))


def _outcome(place: Place) -> None:
    (place.folder / "victim").write_text("not yours")
    os.mkfifo(place.folder / "pipe")
    (place.folder / "cycle").symlink_to("cycle")
    place.environment["LATTICE_FLOWS_OUTCOME"] = place.rng.choice(_OUTCOMES)


_STREAMS = ("stdin", "stdout", "stderr")


def _streams(place: Place) -> None:
    """Standard output or error that cannot be written."""
    kind = place.rng.choice(["closed", "full", "broken pipe"])
    numbers = place.rng.choice([(1,), (1,), (2,), (1, 2), (0, 1, 2)])

    def within() -> None:
        for number in numbers:
            if kind == "closed":
                os.close(number)
                setattr(sys, _STREAMS[number], None)  # as where a process starts without it
            elif number:
                reader, writer = os.pipe()
                os.dup2(os.open("/dev/full", os.O_WRONLY) if kind == "full" else writer, number)
                os.close(reader)
                setattr(sys, _STREAMS[number], os.fdopen(number, "w", closefd=False))

    place.within.append(within)
    place.is_heard = 2 not in numbers


def _limit(what: int, values: list[int]) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        n = place.rng.choice(values)
        place.within.append(lambda: resource.setrlimit(what, (n, n)))

    return prepare


def _gone(place: Place) -> None:
    def within() -> None:
        folder = place.folder.with_name("gone")
        folder.mkdir()
        os.chdir(folder)
        folder.rmdir()

    place.within.append(within)
    place.arguments = [str(place.folder / one) if one == place.subject else one for one in place.arguments]


def _nobody(place: Place) -> None:
    """A user who may read everything and write nothing."""
    if os.getuid() != 0 or place.command.kernels:  # compiled ones are somebody else's, and take their time
        return
    hidden = place.rng.random() < 0.3
    if hidden and place.subject:
        place.file.chmod(0)
    place.within.append(lambda: (os.setgid(65534), os.setuid(65534))[0])


def _full_disk(place: Place) -> None:
    """The folder is on a disk with no room, or a little; where none can be made, files may not grow."""
    room = place.rng.choice([0, 4096, 65536])
    disk = place.folder.with_name("disk")
    disk.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        place.after.append(lambda: subprocess.run(["umount", "-l", str(disk)], check=True) and None)
        place.folder = Path(shutil.move(place.folder, disk))
        status = os.statvfs(disk)
        (disk / "ballast").write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - room)))
    else:
        place.within.append(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)))


def _variables(values: dict[str, list[str | None]]) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        name = place.rng.choice(sorted(values))
        place.environment[name] = place.rng.choice(values[name])

    return prepare


_AT_START: dict[str, list[str | None]] = {
    "MPLBACKEND": ["module://matplotlib_inline.backend_inline", "nonsense", "TkAgg", ""],
    "NUMBA_CACHE_DIR": ["/dev/null", "/proc/none", "card.toml", "", "x" * 300, "new"],
    "HOME": [None, "", "/proc/none", "/dev/null"],
    "XDG_CACHE_HOME": ["/dev/null", "", "/proc/none", "card.toml"],
    "MPLCONFIGDIR": ["/dev/null", "/proc/none", ""],
    "TMPDIR": ["/nowhere", "/dev/null", ""],
    "LC_ALL": ["C", "POSIX", "xx_YY.nonsense", "de_DE.ISO-8859-1"],
    "PYTHONIOENCODING": ["ascii", "latin-1:strict"],
    "PYTHONUTF8": ["0"],
    "OMP_NUM_THREADS": ["0", "-1", "many", "", "100000"],
    "NUMBA_NUM_THREADS": ["1", "2"],
    "NUMBA_DISABLE_JIT": ["1"],
    "NUMBA_THREADING_LAYER": ["tbb", "workqueue", "omp"],
    "COLUMNS": ["0", "-1", "x", "1", "100000"],
    "LINES": ["0", "x"],
    "TERM": [None, "", "dumb", "nonsense"],
    "NO_COLOR": ["1"],
    "FORCE_COLOR": ["1"],
    "WORLD_SIZE": ["x", "", "-1", "0"],
    "RANK": ["x", "", "-1"],
    "LATTICE_FLOWS_LOCKING": ["off", "nonsense", ""],
    "PATH": [None, "", "/nowhere"],
    "SOURCE_DATE_EPOCH": ["0", "x"],
    "CUDA_VISIBLE_DEVICES": ["", "7", "x"],
    "TZ": ["nonsense", ""],
}
_WHEN_READ = ("HOME", "COLUMNS", "TERM", "PATH", "WORLD_SIZE", "RANK", "LATTICE_FLOWS_LOCKING", "TMPDIR")
_LATER = {name: _AT_START[name] for name in _WHEN_READ}


def _removed(place: Place) -> None:
    _remove(place.file)


def _sparse(place: Place) -> None:
    with place.file.open("r+b") as file:
        file.truncate(1 << 40)


def _linked(place: Place) -> None:
    """A link to it, elsewhere, in the place of it: no matter."""
    path = place.folder / place.subject
    moved = place.folder / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()


def _nothing(place: Place) -> None:
    """All is well."""


SITUATIONS: dict[str, Situation] = {
    "all is well": Situation(_nothing),
    **{f"subject: {kind}": Situation(_odd_subject(kind), "subject") for kind in ODD},
    "subject: removed": Situation(_removed, "subject"),
    "subject: linked": Situation(_linked, "subject"),
    "subject: sparse": Situation(_sparse, "subject"),
    "subject: empty": Situation(_content(lambda place, content: b""), "subject"),
    "subject: truncated": Situation(_content(_truncated), "subject", weight=3),
    "subject: flipped": Situation(_content(_flipped), "subject", weight=4),
    "subject: overwritten": Situation(_content(_overwritten), "subject", weight=3),
    "subject: twice": Situation(_content(lambda place, content: content + content), "subject"),
    "subject: lines": Situation(_content(_shuffled), "subject", ".toml", weight=3),
    "subject: foreign": Situation(
        _content(lambda place, content: _FOREIGN[place.rng.choice(sorted(_FOREIGN))]), "subject", weight=3
    ),
    "subject: another HDF5": Situation(_other_hdf5, "subject", ".h5"),
    "subject: a contradiction": Situation(_contradiction, "subject", ".h5", weight=6),
    "subject: another name": Situation(_name, "subject", weight=2),
    **{f"target: {kind}": Situation(_odd_target(kind), "target") for kind in ODD},
    "target: somebody else's": Situation(_victim, "target", weight=3),
    "target: dangling": Situation(_dangling, "target"),
    "target: elsewhere": Situation(_elsewhere(_PLACES), "target", weight=3),
    "a lock": Situation(_lock_held, weight=2),
    "outcome": Situation(_outcome, weight=2),
    "streams": Situation(_streams, weight=2),
    "streams at the start": Situation(_streams, afresh=True),
    "few files": Situation(_limit(resource.RLIMIT_NOFILE, [3, 5, 8, 12, 16])),
    "no room": Situation(_full_disk, weight=2),
    "working directory gone": Situation(_gone),
    "nobody": Situation(_nobody, weight=2),
    "variables": Situation(_variables(_LATER), weight=2),
    "variables at the start": Situation(_variables(_AT_START), afresh=True),
}
