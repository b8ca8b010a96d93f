"""The [training] table of a run card."""

import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

ReverseObjectiveName = Literal["path_gradient", "reverse_kl", "reinforce"]
ObjectiveName = Literal[ReverseObjectiveName, "dreg", "log_variance", "forward_kl", "mixture", "self_normalised"]

_DEFAULT_SECONDS = 120.0
_MOST = {
    "max_steps": 10**12,
    "batch_size": 10**7,
    "micro_batch": 10**7,
    "monitor_every": 10**12,
    "monitor_samples": 10**9,
    "group_size": 10**7,
    "buffer_size": 10**9,
    "patience": 10**12,
    "latent_moves": 10**6,
}
_POSITIVE = (
    "max_seconds",
    "learning_rate",
    "clip_norm",
    "clip",
    "checkpoint_seconds",
    "latent_time",
    "highest_action",
    "reaction_weight",
)
_LEAST = {"max_steps": 0, "monitor_samples": 2, "group_size": 2, "latent_moves": 0}  # 1 of the others


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of a training, which ends at the first of max_steps, max_seconds, target_ess, convergence.

    Schedules are functions of the progress max(step / max_steps, seconds / max_seconds). With neither limit given
    max_seconds is 120. Only a run limited by max_steps alone gives the same weights on every repetition.

    Raises ValueError for a value out of range, naming the key.
    """

    objective: ObjectiveName = "path_gradient"
    data: str | None = None  # "direct" or an ensemble file: what some objectives learn from, and others are judged by
    mixture_weights: tuple[float, float] = (1.0, 1.0)  # a, b of J = a J_KL + b J_ML
    mixture_reverse: ReverseObjectiveName = "path_gradient"  # its J_KL
    group_size: int = 4  # samples in each row of a batch of dreg, over which weights are normalised
    buffer_size: int = 4096  # of self_normalised at first, more where truncation asks for it; and of latent_moves
    latent_moves: int = 0  # Metropolis moves in latent space of as many configurations of `data` as a batch has
    latent_time: float = math.pi / 2.0  # of free motion in the longest of them; pi / 2 under a Gaussian is independent
    init_from: str | None = None  # a checkpoint whose weights are the first ones; of another shape or coupling
    max_steps: int | None = None  # 0: the weights of init_from as they are
    max_seconds: float | None = None
    target_ess: float | None = None  # stop once a validation on 4096 samples or more finds it, an error below the ESS
    patience: int | None = None  # looks that improve neither ESS nor bound, until the learning rate falls to the end
    batch_size: int = 64
    final_batch_size: int | None = None  # reached by doubling, in equal parts of the run
    micro_batch: int | None = None  # samples that a process computes at once; gradients add up. None: all of its share
    learning_rate: float = 0.008  # at its highest
    warmup: float = 0.02  # fraction of the run over which the learning rate rises; it then falls to 0 as a cosine
    adam_beta2: float = 0.999  # memory of the squared gradient
    clip_norm: float = 10.0  # largest norm of the gradient, where `clip` is not given
    clip: float | None = None  # largest gradient of each block of parameters (a layer), in units of its usual norm
    anneal: float = 0.0  # fraction of the run over which the target goes from the prior (S_prior = -log r) to S
    anneal_from: Literal["prior", "flat", "hot"] = "prior"  # "flat": from 0 S, as it was before; no density on the line
    hot_temperature: float = 10.0  # where anneal_from = "hot" begins, in units of the target's: S / 10
    highest_action: float | None = None  # above that of the cold start; S beyond is damped to a logarithm in training
    reaction_coordinate: str | None = None  # a collective variable whose distribution is spread over reaction_range
    reaction_range: tuple[float, float] | None = None
    reaction_weight: float = 1.0  # c of J + c J_RC
    ema_decay: float = 0.99  # of the averaged weights, which are the ones the flow is used with
    precision: Literal["float32", "float64"] | None = None  # of the maps in training; None: that of the first weight
    network_precision: Literal["float32", "tf32", "bfloat16"] | None = None  # of the networks' matrix products
    compile: bool = False  # couplings by torch.compile: needs a C++ compiler, and half a minute before it pays
    monitor_every: int = 200  # steps between two looks: rows of history.csv, each from fresh samples
    monitor_samples: int = 1024
    checkpoint_seconds: float = 60.0
    tensorboard: bool = False  # events beside history.csv; needs the package tensorboard

    added: ClassVar[Mapping[str, Any]] = {
        "anneal_from": "flat",
        "group_size": 4,
        "latent_moves": 0,
        "latent_time": math.pi / 2.0,
        "hot_temperature": 10.0,
        "highest_action": None,
        "reaction_coordinate": None,
        "reaction_range": None,
        "reaction_weight": 1.0,
    }
    """Keys that came later, each with the value that a checkpoint means which does not have it."""

    def __post_init__(self) -> None:
        if self.max_steps is None and self.max_seconds is None:
            object.__setattr__(self, "max_seconds", _DEFAULT_SECONDS)
        self._require_one_of("objective", get_args(ObjectiveName))
        self._require_one_of("mixture_reverse", get_args(ReverseObjectiveName))
        self._require_one_of("anneal_from", ("prior", "flat", "hot"))
        self._require_one_of("precision", ("float32", "float64", None))
        self._require_one_of("network_precision", ("float32", "tf32", "bfloat16", None))
        for name, most in _MOST.items():
            self._require_between(name, getattr(self, name), _LEAST.get(name, 1), most)
        for name in _POSITIVE:
            self._require(name, getattr(self, name), "positive and finite", lambda value: 0 < value < math.inf)
        for name in ("warmup", "anneal", "ema_decay", "adam_beta2"):
            self._require(name, getattr(self, name), "in [0, 1)", lambda value: 0 <= value < 1)
        self._require("hot_temperature", self.hot_temperature, "above 1 and finite", lambda value: 1 < value < math.inf)
        self._require("target_ess", self.target_ess, "in (0, 1]", lambda value: 0 < value <= 1)
        for weight in self.mixture_weights:
            self._require("mixture_weights", weight, "positive and finite", lambda value: 0 < value < math.inf)
        self._require_between("final_batch_size", self.final_batch_size, self.batch_size, _MOST["batch_size"])
        self._check_combinations()

    @staticmethod
    def _require(name: str, value: float | None, what: str, holds: Callable[[float], bool]) -> None:
        if value is not None and not holds(value):
            raise ValueError(f"training.{name} must be {what}, got {value}")

    def _require_between(self, name: str, value: float | None, least: float, most: float) -> None:
        self._require(name, value, f"between {least} and {most}", lambda value: least <= value <= most)

    def _require_one_of(self, name: str, known: tuple[str | None, ...]) -> None:
        if (value := getattr(self, name)) not in known:
            raise ValueError(f"training.{name} must be one of {', '.join(filter(None, known))}, got {value!r}")

    def _check_combinations(self) -> None:
        objective = self.objective
        if self.max_steps == 0 and self.init_from is None:
            raise ValueError("training.max_steps = 0 uses the weights of training.init_from as they are; give it")
        if objective in ("forward_kl", "mixture") and self.data is None:
            raise ValueError(f"training.objective = {objective!r} needs training.data: 'direct' or an ensemble file")
        from_data = objective in ("forward_kl", "mixture")
        if self.latent_moves > 0 and not from_data:
            raise ValueError(f"training.latent_moves needs the objective forward_kl or mixture, got {objective!r}")
        if self.anneal > 0 and from_data and self.latent_moves == 0:
            raise ValueError(
                f"training.anneal must be 0 with {objective}: it learns from configurations of one action, "
                "unless latent_moves moves them"
            )
        self._check_reaction_coordinate()
        if objective == "self_normalised" and self.buffer_size < self.batch_size:
            raise ValueError(f"training.buffer_size must be at least batch_size = {self.batch_size}")
        if self.batch_size < self.fewest_rows:
            raise ValueError(f"training.batch_size must be at least 2 with {self._compares}, got 1")
        if self.fewest_rows == 2 and self.micro_batch is not None and self.micro_batch < 3:
            raise ValueError(f"training.micro_batch must be at least 3 with {self._compares}, got {self.micro_batch}")
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ValueError(
                "training.tensorboard = true needs the package tensorboard: pip install -e '.[tensorboard]'"
            )

    def _check_reaction_coordinate(self) -> None:
        if (self.reaction_coordinate is None) != (self.reaction_range is None):
            raise ValueError("training.reaction_coordinate and training.reaction_range go together: give both or none")
        if self.reaction_range is not None:
            low, high = self.reaction_range
            if not -math.inf < low < high < math.inf:
                raise ValueError(f"training.reaction_range must be two finite ascending numbers, got {low}, {high}")

    @property
    def _compares(self) -> str | None:
        """The objective that compares each row with the others, if there is one."""
        name = self.mixture_reverse if self.objective == "mixture" else self.objective
        return name if name in ("reinforce", "log_variance") else None

    @property
    def fewest_rows(self) -> int:
        """The fewest rows of a batch that a process needs."""
        return 1 if self._compares is None else 2

    @property
    def samples_per_row(self) -> int:
        """The samples in each row of a batch."""
        return self.group_size if self.objective == "dreg" else 1

    def progress(self, step: int, seconds: float) -> float:
        """The fraction of the run that is done, from 0 to 1."""
        by_step = 0.0 if self.max_steps is None else step / max(1, self.max_steps)
        by_time = 0.0 if self.max_seconds is None else seconds / self.max_seconds
        return min(1.0, max(by_step, by_time))

    def learning_rate_at(self, progress: float) -> float:
        """The learning rate: a linear warm-up, then half a cosine down to 0."""
        rise = min(1.0, (progress + 1e-3) / (self.warmup + 1e-3))
        return self.learning_rate * rise * 0.5 * (1.0 + math.cos(math.pi * progress))

    def action_scale_at(self, progress: float) -> float:
        """How far annealing is, from 0 to 1: the share t of S in the target (1 - t) S_prior + t S."""
        return 1.0 if progress >= self.anneal else progress / self.anneal

    def batch_size_at(self, progress: float) -> int:
        """The batch size, a geometric schedule in few steps: batch_size, about twice as many, ..., final_batch_size."""
        ratio = 1.0 if self.final_batch_size is None else self.final_batch_size / self.batch_size
        n_rises = math.ceil(math.log2(ratio) - 1e-9)
        if n_rises == 0:
            return self.batch_size
        stage = min(int(progress * (n_rises + 1)), n_rises)
        return round(self.batch_size * ratio ** (stage / n_rises))
