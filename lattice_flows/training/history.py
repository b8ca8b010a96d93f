"""history.csv: one row per look at the training."""

import csv
import os
from dataclasses import astuple, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """One row. `ess` and `log_z_bound` = mean log_w <= log Z are those of fresh samples of the averaged weights."""

    step: int
    seconds: float
    loss: float  # of this step's batch, with the scaled action
    ess: float
    log_z_bound: float
    learning_rate: float
    action_scale: float
    gradient_norm: float


COLUMNS = tuple(field.name for field in fields(Record))


def append_record(path: Path, record: Record) -> None:
    """Add a row, and the heading where the file is new. Floats are written in full (repr)."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        writer.writerow([repr(value) for value in astuple(record)])
        file.flush()
        os.fsync(file.fileno())


def read_history(path: Path) -> list[Record]:
    """All rows. Raises ValueError for a file with other columns."""
    with path.open(newline="") as file:
        reader = csv.reader(file)
        heading = next(reader, [])
        if tuple(heading) != COLUMNS:
            raise ValueError(f"{path}: not a training history, its columns are {heading}")
        # A row cut short by a kill is the last one, and belongs to steps that will be repeated.
        return [Record(int(row[0]), *map(float, row[1:])) for row in reader if len(row) == len(COLUMNS)]


def truncate_history(path: Path, step: int) -> None:
    """Drop the rows after `step`: those of work that was lost and will be done again."""
    if not path.exists():
        return
    kept = [record for record in read_history(path) if record.step <= step]
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    for record in kept:
        append_record(temporary, record)
    if kept:
        os.replace(temporary, path)
    else:
        path.unlink()
