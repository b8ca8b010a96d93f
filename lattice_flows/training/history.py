"""history.csv: one row per look at the training."""

import csv
import hashlib
import io
import os
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path

from lattice_flows.atomic_files import naming, write_atomically
from lattice_flows.regular_files import open_regular
from lattice_flows.statistics import MIN_EFFECTIVE_SAMPLES, is_dominated
from lattice_flows.training.checkpoint import CHECKPOINT_NAME, Checkpoint, CheckpointError

HISTORY_NAME = "history.csv"
_LONGEST = 1 << 30  # bytes, of three million rows


@dataclass(frozen=True)
class Record:
    """One row of the history. `loss` and gradient_norm are of the step's batch; these are of fresh samples of the
    averaged weights: ess, log_z, and log_z_bound = <log w> = log Z - KL(q|p). Where there are data, log_z_upper = <log
    w> over them = log Z + KL(p|q). None, an empty cell, means that a value is not known.

    gradient_snr = |E g| / sqrt(E|g - E g|^2) of a batch's clipped gradient g, over the last 200 steps or so (see
    GradientNoise); 0 where the noise hides E g. round_trip is the error of log w by the map's inverse (see Validation),
    step_error that by the steps of a flow that is integrated (see `refine`).
    """

    step: int
    seconds: float
    loss: float  # with the annealed action
    ess: float
    log_z_bound: float
    learning_rate: float
    action_scale: float  # the share of S in it
    gradient_norm: float  # before it is clipped
    ess_error: float | None = None
    largest_share: float | None = None  # of one weight in the sum of all
    log_z: float | None = None
    log_z_error: float | None = None
    log_z_bound_error: float | None = None
    log_z_upper: float | None = None
    log_z_upper_error: float | None = None
    n_samples: float | None = None  # that the ESS is of
    batch_size: float | None = None
    gradient_snr: float | None = None
    round_trip: float | None = None
    step_error: float | None = None


Columns = tuple[str, ...]

COLUMNS: Columns = tuple(field.name for field in fields(Record))
_ALWAYS_KNOWN = {field.name for field in fields(Record) if field.default is MISSING}


def is_trusted(record: Record) -> bool:
    """Whether there are enough samples for the ESS, and no single weight dominates it."""
    n = record.n_samples or 0
    enough = record.ess * n >= MIN_EFFECTIVE_SAMPLES
    return enough and not is_dominated(record.ess, n, record.largest_share or 0.0)


def append_record(path: Path, record: Record) -> None:
    """Add a row, and the heading if the file is new. Floats are written in full (repr).

    A file that was begun with fewer columns keeps those.
    """
    new = not path.exists() or path.stat().st_size == 0  # a kill, or a full disk, leaves an empty file
    columns = COLUMNS if new else _heading(path)
    with naming(path), path.open("a", newline="") as file:
        file.write(_lines([record], columns, heading=new))
        file.flush()
        os.fsync(file.fileno())


def _heading(path: Path) -> Columns:
    with io.TextIOWrapper(open_regular(path, _LONGEST), "utf-8", newline="") as file:
        return tuple(next(csv.reader(file)))


def _lines(records: Iterable[Record], columns: Columns, heading: bool) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if heading:
        writer.writerow(columns)
    rows = ([getattr(record, name) for name in columns] for record in records)
    writer.writerows(["" if value is None else repr(value) for value in row] for row in rows)
    return text.getvalue()


def read_history(path: Path) -> list[Record]:
    """All rows; columns that came later than the file are None. Raises CheckpointError for a file that is not a
    training history.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[Columns, list[Record]]:
    """The columns of the file, the first ones of COLUMNS, and all rows."""
    try:
        with io.TextIOWrapper(open_regular(path, _LONGEST), "utf-8", newline="") as file:
            # A line cut short, by a kill or a full disk, is the last one, and belongs to steps that will be repeated.
            reader = csv.reader([line for line in file if line.endswith("\n")])
            heading = tuple(next(reader, COLUMNS))
            if heading != COLUMNS[: max(len(heading), len(_ALWAYS_KNOWN))]:
                raise CheckpointError(
                    f"{path}: not a training history, its columns are {list(heading)}; delete or move it"
                )
            return heading, [_record(row) for row in reader if len(row) == len(heading)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CheckpointError(
            f"{path}: not a readable training history ({type(error).__name__}); delete or move it"
        ) from None
    except ValueError as error:
        raise (
            error
            if isinstance(error, CheckpointError)
            else CheckpointError(f"{path}: holds a value that is not a number; delete or move it")
        ) from None


def _record(row: list[str]) -> Record:
    """The record in a row of text, in which only values that may be unknown may be empty."""
    step, *cells = row
    known = dict(zip(COLUMNS[1:], (float(cell) if cell else None for cell in cells)))
    if any(value is None for name, value in known.items() if name in _ALWAYS_KNOWN):
        raise ValueError("an empty cell")
    return Record(int(step), **known)  # type: ignore[arg-type]


def history_sha256(path: Path, step: int) -> str:
    """sha256 of the rows up to `step`, by which a checkpoint knows its history; "" where there is no file.

    Without their seconds, which differ on every repetition.
    """
    if not path.exists():
        return ""
    return _sha256(*_read(path), step)


def _sha256(columns: Columns, records: Iterable[Record], step: int) -> str:
    timeless = (replace(row, seconds=0.0) for row in records if row.step <= step)
    return hashlib.sha256(_lines(timeless, columns, heading=True).encode()).hexdigest()


def history_of(checkpoint: Checkpoint, path: Path) -> list[Record]:
    """All rows of the checkpoint's history; none if there is no file.

    Raises CheckpointError for a file that is not a training history, or is that of another training.
    """
    if not path.exists():
        return []
    columns, records = _read(path)
    if checkpoint.history and checkpoint.history != _sha256(columns, records, checkpoint.step):
        raise CheckpointError(
            f"{path}: is not the history of {CHECKPOINT_NAME} beside it; restore the one that was there, or delete it"
        )
    return records


def truncate_history(path: Path, step: int) -> None:
    """Drop the rows after `step`: those of work that was lost and will be done again."""
    if not path.exists():
        return
    columns, records = _read(path)
    kept = [record for record in records if record.step <= step]
    if kept:
        write_atomically(path, _lines(kept, columns, heading=True).encode())
    else:
        path.unlink()
