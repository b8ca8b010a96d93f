"""TensorBoard events of a training: the numbers of history.csv."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from lattice_flows.training.history import Record

EVENTS_NAME = "tensorboard"


@contextmanager
def event_writer(folder: Path | None, step: int) -> Iterator[Callable[[Record], None]]:
    """A function that adds a row of the history to the events in `folder`, or does nothing if that is None.

    Events after `step`, of work that was lost, are hidden by later ones. Needs the package tensorboard.
    """
    if folder is None:
        yield lambda record: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=step + 1) as writer:

        def write(record: Record) -> None:
            for name, value in asdict(record).items():
                if name != "step" and value is not None and math.isfinite(value):
                    writer.add_scalar(name, value, record.step)
            writer.flush()

        yield write
