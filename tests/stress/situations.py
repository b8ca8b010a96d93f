"""What a command may meet: odd files, odd targets, odd surroundings, odd names. Each changes a Place before the run."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from odd_files import ODD, make_odd
from stress import odd_contents as subjects
from stress.place import Place


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


def _odd_target(kind: str) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        make_odd(kind, place.folder / place.target)

    return prepare


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
_OUTCOMES = ["", "victim", "pipe", "cycle", ".", "/", "/dev/full", "no/such/folder/x", "card.toml/x", "x" * 300, "e.h5"]
_OUTCOMES += ["new", "/dev/stdout"]


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


def _nothing(place: Place) -> None:
    """All is well."""


SITUATIONS: dict[str, Situation] = {
    "all is well": Situation(_nothing),
    **{f"subject: {kind}": Situation(subjects.odd_subject(kind), "subject") for kind in ODD},
    "subject: removed": Situation(subjects.removed, "subject"),
    "subject: linked": Situation(subjects.linked, "subject"),
    "subject: sparse": Situation(subjects.sparse, "subject"),
    "subject: empty": Situation(subjects.content_by(lambda place, content: b""), "subject"),
    "subject: truncated": Situation(subjects.content_by(subjects.truncated), "subject", weight=3),
    "subject: flipped": Situation(subjects.content_by(subjects.flipped), "subject", weight=4),
    "subject: overwritten": Situation(subjects.content_by(subjects.overwritten), "subject", weight=3),
    "subject: twice": Situation(subjects.content_by(lambda place, content: content + content), "subject"),
    "subject: lines": Situation(subjects.content_by(subjects.shuffled), "subject", ".toml", weight=3),
    "subject: foreign": Situation(subjects.content_by(subjects.foreign), "subject", weight=3),
    "subject: another HDF5": Situation(subjects.other_hdf5, "subject", ".h5"),
    "subject: a contradiction": Situation(subjects.contradiction, "subject", ".h5", weight=6),
    "subject: another name": Situation(subjects.another_name, "subject", weight=2),
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
