"""Whole runs of cards that are killed: train, sample and run."""

import random
import shutil
from pathlib import Path

from cards import assert_same_ensemble
from stress.board import Board
from stress.job import Failure, Job
from stress.jobs import CARDS, STEPS, WHOLE, WITHOUT_FIGURES

import lattice_flows.stages
from lattice_flows.ensembles import Ensemble
from lattice_flows.training import CHECKPOINT_NAME, HISTORY_NAME, read_checkpoint, read_history

_AIMS = ("", "", "", ".segments", ".segments", ".h5.", ".lock")
_AIMS_OF_THE_START = ("card", "overrides")
_AIMS_OF_TRAINING = ("checkpoint", "checkpoint", "history")
_ACTS = 12.0  # on the average, before an aimed kill
_SECONDS = 1.0  # on the average, before a kill at a random moment


class RunJob(Job):
    """One card."""

    def __init__(self, name: str, home: Path, board: Board) -> None:
        self.card = home / name / "card.toml"
        steps = STEPS.get(name, (WHOLE,))
        super().__init__(name, home, board, tuple((one[0], str(self.card), "--out={}", *one[1:]) for one in steps))

    def prepare_sources(self) -> None:
        self.card.write_text(CARDS[self.name])

    def fresh(self, out: Path) -> None:
        shutil.rmtree(out, ignore_errors=True)
        self.held: dict[Path, int] = {}
        self.trained = 0

    def in_child(self) -> None:
        if self.name in WITHOUT_FIGURES:
            lattice_flows.stages.write_report = lambda *arguments: None

    def mean_seconds(self) -> float:
        return _SECONDS

    def aims(self, rng: random.Random) -> tuple[tuple[str, ...], float]:
        if not (self.out / "card.toml").exists():
            with_overrides = any(one.startswith("--set") for one in self.step)
            return _AIMS_OF_THE_START[: 1 + with_overrides], 2.0
        training = "[flow]" in CARDS[self.name] and not ensembles(self.out)
        return (_AIMS_OF_TRAINING if training and rng.random() < 0.5 else _AIMS), _ACTS

    def check(self) -> None:
        committed = self.board.committed
        for path in ensembles(self.out) | self.held.keys():
            wanted = self.held.get(path, 0)
            if committed and committed[0] == path:
                wanted = max(wanted, committed[1])
            self.held[path] = holds(path)
            if self.held[path] < wanted:
                raise Failure(f"{path}: {wanted} configurations were committed, {self.held[path]} are left")
        if committed and committed[0] not in self.held:
            raise Failure(f"{committed[0]}: was committed to, and is gone")
        checkpoint = self.out / "flow" / CHECKPOINT_NAME
        trained = read_checkpoint(checkpoint).step if checkpoint.exists() else 0
        if trained < self.trained:
            raise Failure(f"{checkpoint}: was at step {self.trained}, is at {trained}")
        self.trained = trained

    def compare(self) -> None:
        for path in sorted(ensembles(self.reference)):
            assert_same_ensemble(path, self.out / path.relative_to(self.reference))
        if (self.reference / "flow").exists():
            one, other = (folder / "flow" for folder in (self.reference, self.out))
            first, second = (read_checkpoint(folder / CHECKPOINT_NAME) for folder in (one, other))
            if any(not first.average[name].equal(second.average[name]) for name in first.average):
                raise Failure(f"{self.name}: trained other weights")
            rows = [[(r.step, r.loss, r.ess) for r in read_history(folder / HISTORY_NAME)] for folder in (one, other)]
            if rows[0] != rows[1]:
                raise Failure(f"{self.name}: has another history of the training")
        if left := [path for path in self.out.rglob("*") if path.suffix in (".tmp", ".segments")]:
            raise Failure(f"{self.name}: left behind {left}")


def ensembles(out: Path) -> set[Path]:
    """The paths NAME.h5 of everything in a run's folder that was ever committed."""
    found = {path.with_suffix(".h5") for path in out.rglob("*") if path.suffix in (".h5", ".segments")}
    return {path for path in found if path.parent.suffix != ".segments" and Ensemble.exists(path)}


def holds(path: Path) -> int:
    """The number of configurations, once every byte was checked."""
    if not Ensemble.exists(path):
        return 0
    with Ensemble.open(path) as ensemble:
        ensemble.verify()
        ensemble.state()
        return ensemble.n_configs
