"""What is killed: commands in processes of their own, and what must be true of their files afterwards."""

import os
import random
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import pytest
from cards import environment, set_pace
from stress.board import Board
from stress.children import forked, wait

from lattice_flows.exit_status import EXIT_INPUT

PATIENCE = 300.0  # seconds for a command to its end
_SHORTEST = 0.02  # seconds on the average, before a kill at a random moment


class Failure(AssertionError):
    """What a kill has broken."""


class Job(ABC):
    """Commands that follow each other, brought to their end once without a kill, and then with them.

    steps    their arguments; a {} in them is the folder in which they work
    seconds  how long they take without a kill
    """

    def __init__(self, name: str, home: Path, board: Board, steps: tuple[tuple[str, ...], ...]) -> None:
        self.name, self.home, self.board, self.steps = name, home / name, board, steps
        self.out, self.stash = self.home / "out", self.home / "stash"
        self.home.mkdir()
        self.prepare_sources()
        self.seconds = 0.0
        begun = time.monotonic()
        self.fresh(self.reference)
        for self.step in steps:
            self.finish(self.reference)
        self.seconds = (time.monotonic() - begun) / len(steps)

    @property
    def reference(self) -> Path:
        """The folder of the commands that nobody killed."""
        return self.home / "reference"

    @abstractmethod
    def prepare_sources(self) -> None:
        """Make what the commands are given, once."""

    @abstractmethod
    def fresh(self, out: Path) -> None:
        """An empty folder to begin again, or one with what the commands work on."""

    @abstractmethod
    def check(self) -> None:
        """Raises Failure unless all that was there or was committed is there, opens and verifies."""

    @abstractmethod
    def compare(self) -> None:
        """Raises Failure unless the end is equal to that of the commands that were never interrupted."""

    @property
    def is_done(self) -> bool:
        """Whether the killed command has done all its work, and is refused when it is given again."""
        return False

    @abstractmethod
    def aims(self, rng: random.Random) -> tuple[tuple[str, ...], float]:
        """Parts of the names of files at which a kill may be aimed, and how many acts on them come before it."""

    @abstractmethod
    def in_child(self) -> None:
        """What makes the command meet more moments at which a kill could hurt. Called in its process."""

    def start(self, out: Path, prepare: Callable[[], None] = lambda: None) -> int:
        """Fork a process that runs the step; returns its id."""
        self.board.clear()
        self.board.stage = self.step[0]
        shutil.rmtree(self.stash, ignore_errors=True)
        self.stash.mkdir()

        def within() -> None:
            self.board.watch()
            # Commits as often as blocks, and blocks as small as can be: then a kill meets one soon.
            set_pace(pytest.MonkeyPatch(), block_seconds=0.002, commit_seconds=0.02)
            self.in_child()
            prepare()

        return forked(self._arguments(out), self.home / "stdout", self.home / "stderr", within)

    def _arguments(self, out: Path) -> list[str]:
        return [one.replace("{}", str(out)) for one in self.step]

    def start_afresh(self) -> int:
        """As `start`, in a process that shares nothing with this one."""
        self.board.clear()
        command = [sys.executable, "-m", "lattice_flows.cli", *self._arguments(self.out)]
        with (self.home / "stderr").open("w") as stderr:
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, env=environment()).pid

    def finish(self, out: Path) -> None:
        """Run to the end."""
        self.ended(wait(self.start(out), PATIENCE))

    def ended(self, status: int | None) -> None:
        """Raises Failure unless the process ended well by itself."""
        if status is None:
            raise Failure(f"{self.name}: does not come to its end in {PATIENCE} s; at {self.board.stage}")
        code = os.waitstatus_to_exitcode(status)
        if code and not (code == EXIT_INPUT and self.is_done):
            raise Failure(f"{self.name}: ended with {code}: {(self.home / 'stderr').read_text()}")

    def mean_seconds(self) -> float:
        """The mean time before a kill at a random moment."""
        return max(_SHORTEST, self.seconds / 2)
