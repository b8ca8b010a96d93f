"""The [training] table of a run card."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

Objective = Literal["path_gradient", "reverse_kl"]

_DEFAULT_SECONDS = 120.0


@dataclass(frozen=True)
class TrainingSettings:
    """How a flow is trained. The run ends at whichever comes first: max_steps, max_seconds, target_ess.

    Schedules are functions of the progress max(step / max_steps, seconds / max_seconds). With neither limit given
    max_seconds is 120. Only a run limited by max_steps alone gives the same weights on every repetition.

    Raises ValueError for a value out of range, naming the key.
    """

    objective: Objective = "path_gradient"
    max_steps: int | None = None
    max_seconds: float | None = None
    target_ess: float | None = None  # stop once the ESS measured during training reaches it
    batch_size: int = 64
    learning_rate: float = 0.008  # at its highest
    warmup: float = 0.02  # fraction of the run over which the learning rate rises; it then falls to 0 as a cosine
    clip: float = 10.0  # largest norm of the gradient
    anneal: float = 0.0  # fraction of the run over which the action is scaled up from 0 to S
    ema_decay: float = 0.99  # of the averaged weights, which are the ones the flow is used with
    monitor_every: int = 200  # steps between two rows of history.csv, each with a fresh ESS
    monitor_samples: int = 1024
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.max_steps is None and self.max_seconds is None:
            object.__setattr__(self, "max_seconds", _DEFAULT_SECONDS)
        if self.objective not in (known := get_args(Objective)):
            raise ValueError(f"training.objective must be one of {', '.join(known)}, got {self.objective!r}")
        for name in ("max_steps", "batch_size", "monitor_every"):
            self._require(name, getattr(self, name), "at least 1", lambda value: value >= 1)
        self._require("monitor_samples", self.monitor_samples, "at least 2", lambda value: value >= 2)
        for name in ("max_seconds", "learning_rate", "clip", "checkpoint_seconds"):
            self._require(name, getattr(self, name), "positive and finite", lambda value: 0 < value < math.inf)
        for name in ("warmup", "anneal", "ema_decay"):
            self._require(name, getattr(self, name), "in [0, 1)", lambda value: 0 <= value < 1)
        self._require("target_ess", self.target_ess, "in (0, 1]", lambda value: 0 < value <= 1)

    @staticmethod
    def _require(name: str, value: float | None, what: str, holds: Callable[[float], bool]) -> None:
        if value is not None and not holds(value):
            raise ValueError(f"training.{name} must be {what}, got {value}")

    def progress(self, step: int, seconds: float) -> float:
        """How much of the run is done, from 0 to 1."""
        by_step = 0.0 if self.max_steps is None else step / self.max_steps
        by_time = 0.0 if self.max_seconds is None else seconds / self.max_seconds
        return min(1.0, max(by_step, by_time))

    def learning_rate_at(self, progress: float) -> float:
        """Linear warm-up, then half a cosine down to 0."""
        rise = min(1.0, (progress + 1e-3) / (self.warmup + 1e-3))
        return self.learning_rate * rise * 0.5 * (1.0 + math.cos(math.pi * progress))

    def action_scale_at(self, progress: float) -> float:
        """The factor on S, 1 when annealing is over."""
        return 1.0 if progress >= self.anneal else progress / self.anneal
