"""history.csv: one row per look at the training."""

import csv
import os
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from lattice_flows.training.checkpoint import CheckpointError, named


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
    new = not path.exists() or path.stat().st_size == 0  # a kill, or a full disk, leaves an empty file
    with named(path), path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        writer.writerow([repr(value) for value in astuple(record)])
        file.flush()
        os.fsync(file.fileno())


def read_history(path: Path) -> list[Record]:
    """All rows. Raises CheckpointError for a file that is not a training history."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            # A line cut short, by a kill or a full disk, is the last one, and belongs to steps that will be repeated.
            reader = csv.reader([line for line in file if line.endswith("\n")])
            heading = next(reader, COLUMNS)
            if tuple(heading) != COLUMNS:
                raise CheckpointError(f"{path}: not a training history, its columns are {heading}; take it away")
            return [Record(int(row[0]), *map(float, row[1:])) for row in reader if len(row) == len(COLUMNS)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CheckpointError(
            f"{path}: not a readable training history ({type(error).__name__}); take it away"
        ) from None
    except ValueError as error:
        raise (
            error
            if isinstance(error, CheckpointError)
            else CheckpointError(f"{path}: holds what is not a number; take it away")
        ) from None


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
