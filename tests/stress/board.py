"""What a child is doing, in memory that it shares with its parent: a SIGKILL does not wipe it."""

import functools
import importlib
import mmap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LINE = 512

# Where the stages of a run begin, as (module, attribute, what a kill in there has met). The innermost one counts.
STAGES = (
    ("lattice_flows.stages", "claim", "card"),
    ("lattice_flows.production.train", "_train", "training"),
    ("lattice_flows.training.training_state", "save_checkpoint", "checkpoint"),
    ("lattice_flows.training.loop", "append_record", "history"),
    ("lattice_flows.training.loop", "truncate_history", "history"),
    ("lattice_flows.production.generate", "tuned", "tuning"),
    ("lattice_flows.production.produce", "Production._thermalise", "thermalisation"),
    ("lattice_flows.production.produce", "Production._produce", "sampling"),
    ("lattice_flows.ensembles.writer", "EnsembleWriter.commit", "segment"),
    ("lattice_flows.ensembles.writer", "EnsembleWriter.finish", "join"),
    ("lattice_flows.stages", "_report", "report"),
)


class Board:
    """Three lines: the stage in hand, the last commit that was reported done, whether a child that waits may go on."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 3 * _LINE)
        self._waits_in = ""

    def _write(self, line: int, text: str) -> None:
        self._memory[line * _LINE : (line + 1) * _LINE] = text.encode()[:_LINE].ljust(_LINE)

    def _read(self, line: int) -> str:
        return self._memory[line * _LINE : (line + 1) * _LINE].decode(errors="replace").strip(" \0")

    def clear(self) -> None:
        self._write(0, "start")
        self._write(1, "")
        self._write(2, "")

    @property
    def stage(self) -> str:
        return self._read(0)

    @stage.setter
    def stage(self, text: str) -> None:
        self._write(0, text)

    @property
    def committed(self) -> tuple[Path, int] | None:
        """The ensemble of the last commit that came back, and how many configurations it then held."""
        path, _, n_configs = self._read(1).rpartition(" ")
        return (Path(path), int(n_configs)) if path else None

    def wait_in(self, stage: str) -> None:
        """Let this process wait where the stage begins, until the parent says `go_on`: a short stage is not missed."""
        self._waits_in = stage

    def go_on(self) -> None:
        self._write(2, "go on")

    def watch(self) -> None:
        """Wrap the stages of this process, so that the board shows which one is in hand."""
        for module, attribute, stage in STAGES:
            owner, name = _owner(module, attribute)
            setattr(owner, name, self._staged(getattr(owner, name), stage))

    def _staged(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            before, self.stage = self.stage, stage
            while stage == self._waits_in and not self._read(2):
                time.sleep(0.001)
            result = function(*arguments, **named)
            if stage == "segment":
                self._write(1, f"{arguments[0].path} {arguments[0].n_configs}")
            self.stage = before
            return result

        return wrapped


def _owner(module: str, attribute: str) -> tuple[Any, str]:
    owner: Any = importlib.import_module(module)
    *parents, name = attribute.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name
