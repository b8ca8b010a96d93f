"""Stochastic normalizing flows (arXiv:2002.06707, arXiv:2201.08862): transforms and Markov steps in turn."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from lattice_flows.flows import (
    Ability,
    DirectPrior,
    FlowPlan,
    FlowSample,
    Proposer,
    SymmetrisedFlow,
    abilities,
    drawn_streams,
)
from lattice_flows.flows.plan import MOST_LAYERS, check_between
from lattice_flows.kernels.random import split_streams
from lattice_flows.lattice import CIRCLE, REAL, Space
from lattice_flows.samplers.annealing_path import check_kernel
from lattice_flows.samplers.path_layers import Deterministic, Langevin, Markov, PathLayer
from lattice_flows.samplers.protocol import LINEAR, MOST_STEPS, check_protocol, times
from lattice_flows.samplers.sampler import SamplerFactory, Streams
from lattice_flows.theories.action import Action
from lattice_flows.theories.couplings import at_couplings


class StochasticFlow(Proposer):
    """Layers that lead from the action `first`, which can be drawn directly, to the target, some of them random.

    It is no transform: x has no density that could be computed, only its path has, and log q is that of the path less
    that of the path backwards. Weights exp(-S(x) - log q), and a Metropolis test of them, are exact all the same: on
    the space of paths (arXiv:2002.06707, section 3).
    """

    prior: DirectPrior

    def __init__(self, first: Action, event: tuple[int, ...], layers: list[PathLayer]) -> None:
        super().__init__()
        self.first, self.prior = first, DirectPrior(first, event)
        self.layers = nn.ModuleList(layers)

    @property
    def space(self) -> Space:
        return self.prior.space

    def noise(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """(keys,) of a random stream for each path (n,)."""
        return (torch.from_numpy(drawn_streams(n, generator)[:, 0].astype(np.int64)).to(generator.device),)

    def image(self, z: Tensor, *noise: Tensor) -> FlowSample:
        """The ends of paths from z (B, *event)."""
        streams, x, log_q = streams_of(*noise), z, self.prior.log_prob(z)
        for k, layer in enumerate(self.sequence()):
            x, log_ratio = layer.forward(x, split_streams(streams, k))
            log_q = log_q - log_ratio
        return FlowSample(self.space.wrap(x), log_q)

    def path_log_q(self, x: Tensor, *noise: Tensor) -> Tensor:
        """log q of paths to x (B, *event) that are drawn backwards from it."""
        streams, layers = streams_of(*noise), self.sequence()
        log_q = x.new_zeros(len(x), dtype=torch.float64)
        for k in range(len(layers) - 1, -1, -1):
            x, log_ratio = layers[k].backward(x, split_streams(streams, k))
            log_q = log_q - log_ratio
        return log_q + self.prior.log_prob(x)

    def sequence(self) -> list[PathLayer]:
        """The layers, the first one first."""
        return cast("list[PathLayer]", list(self.layers))


def streams_of(keys: Tensor) -> Streams:
    """The random streams (n, 2) with these keys (n,)."""
    words = keys.cpu().numpy().astype(np.uint64)
    return np.stack([words, np.zeros_like(words)], axis=1)


MOST_UPDATES = MOST_STEPS  # of a path: no signal is heard on its way
_RANDOM: frozenset[Ability] = frozenset({"gradient", "score", "paths", "inverse"})


class LayerPlan(ABC):
    """A layer yet to be built, for any action along the path."""

    @abstractmethod
    def layer(self, action: Action) -> PathLayer:
        """The layer at this action."""

    @property
    @abstractmethod
    def n_random(self) -> int:
        """The number of random updates in it."""

    @abstractmethod
    def offers(self, action: Action) -> frozenset[Ability]:
        """What objectives can ask of it."""

    def check(self, action: Action, where: str) -> None:  # noqa: B027
        """Raise ValueError, beginning with `where`, for what makes no layer."""


@dataclass(frozen=True)
class TransformLayer(LayerPlan):
    """The transform of a flow, without its prior. plan: of the flow, from the action."""

    plan: Callable[[Action], FlowPlan]

    def check(self, action: Action, where: str) -> None:
        """Raise ValueError for a flow of other variables, and for one that is exact only to the error of its steps."""
        plan = self.plan(action)
        if plan.space != action.space:
            raise ValueError(f"{where}: is a flow of {plan.space}, but the variables are {action.space}")
        if isinstance(plan, SymmetrisedFlow):
            raise ValueError(f"{where}: a flow moved by random symmetries is no transform; name its transforms alone")
        if plan.integrated:
            raise ValueError(
                f"{where}: {type(plan).__name__} is integrated, and its steps are not refined inside a flow"
            )

    @property
    def n_random(self) -> int:
        """None."""
        return 0

    def offers(self, action: Action) -> frozenset[Ability]:
        """Those of the flow."""
        return abilities(self.plan(action))

    def layer(self, action: Action) -> PathLayer:
        return Deterministic(self.plan(action).build().transform)  # type: ignore[arg-type]


@dataclass(frozen=True)
class MarkovLayer(LayerPlan):
    """n_updates of a sampler. Raises ValueError for a number of updates out of range."""

    kernel: SamplerFactory
    n_updates: int = 1

    def __post_init__(self) -> None:
        check_between("n_updates", self.n_updates, 1, MOST_UPDATES)

    def check(self, action: Action, where: str) -> None:
        """Raise ValueError for a sampler that is not tuned or carries more than x from update to update."""
        check_kernel(kernel := self.kernel(action), where)
        if not kernel.tuned:
            raise ValueError(f"{where}: give {', '.join(kernel.tunable)}: nothing is tuned inside a flow")

    @property
    def n_random(self) -> int:
        """All."""
        return self.n_updates

    def offers(self, action: Action) -> frozenset[Ability]:
        """All, but for paths where the sampler does not know its way back."""
        try:
            self.kernel(action).reversed()
        except ValueError:
            return _RANDOM - {"paths"}
        return _RANDOM

    def layer(self, action: Action) -> PathLayer:
        return Markov(self.kernel(action), self.n_updates)


@dataclass(frozen=True)
class LangevinLayer(LayerPlan):
    """n_updates steps of the Langevin equation of this size. Raises ValueError for values out of range."""

    step_size: float
    n_updates: int = 1

    def __post_init__(self) -> None:
        check_between("n_updates", self.n_updates, 1, MOST_UPDATES)
        if not 0 < self.step_size < float("inf"):
            raise ValueError(f"langevin must be a step size > 0 and finite, got {self.step_size}")

    def check(self, action: Action, where: str) -> None:
        """Raise ValueError for variables that are no angles or real numbers."""
        if action.space not in (CIRCLE, REAL):
            raise ValueError(f"{where}: Langevin steps move angles and real numbers, not {action.space}; use a sampler")

    @property
    def n_random(self) -> int:
        """All."""
        return self.n_updates

    def offers(self, action: Action) -> frozenset[Ability]:
        """All."""
        return _RANDOM

    def layer(self, action: Action) -> PathLayer:
        return Langevin(action, self.step_size, self.n_updates)


@dataclass(frozen=True)
class StochasticFlowPlan(FlowPlan):
    """The stochastic flow from a theory that can be drawn directly to the target, along the actions between the two.

    layers: of each step, in this order: transforms of flows, updates of samplers, or Langevin steps. In step k those
    that are random are at the action S_k, and a transform has weights of its own. A transform before a sampler is to
    lead from S_(k-1) to S_k. Without transforms this is annealed importance sampling; one step of many couplings and
    one HMC block is the flow of figure 2 of the lecture on which the package is built.
    initial: the couplings of S_0 that are not those of the target, at which there is a direct sampler.
    n_steps: how often the layers are repeated.
    protocol: t of the actions (1 - t) S_0 + t S_n at equally spaced times, linear in between.

    Training minimises the mean work (objectives path_gradient and reverse_kl) or, on configurations of the target, that
    of the paths backwards (forward_kl). Gradients go through the transforms only: each learns from the configurations
    that the layer before it makes (arXiv:2201.13117).

    Raises ValueError for values out of range, couplings at which there is no direct sampler, and samplers that are not
    tuned or carry more than x from update to update.
    """

    shape: tuple[int, ...]
    action: Action
    _: KW_ONLY
    layers: tuple[LayerPlan, ...]
    initial: dict[str, float]
    n_steps: int = 1
    protocol: tuple[float, ...] = LINEAR

    def __post_init__(self) -> None:
        check_between("n_steps", self.n_steps, 1, MOST_LAYERS)
        check_protocol(self.protocol)
        if not self.layers:
            raise ValueError("layers must name one layer or more")
        if self.first.direct_sampler() is None:
            raise ValueError(f"initial: there is no direct sampler for {self.first}")
        self.action.event_shape(self.shape)
        for k, plan in enumerate(self.layers):
            plan.check(self.action, f"layers[{k}]")
        total = self.n_steps * sum(plan.n_random for plan in self.layers)
        if total > MOST_UPDATES:
            raise ValueError(f"layers make {total} updates in {self.n_steps} steps: at most {MOST_UPDATES}")

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.action.space

    @cached_property
    def first(self) -> Action:
        """S_0."""
        return at_couplings(self.action, self.initial, "initial")

    @property
    def offers(self) -> frozenset[Ability]:  # type: ignore[override]
        """What all layers offer, but an inverse; and the layers themselves."""
        common = frozenset[Ability].intersection(*(plan.offers(self.action) for plan in self.layers))
        return common - {"inverse"} | {"layers"}

    def assemble(self) -> StochasticFlow:
        """The layers of every step."""
        t = times(self.protocol, self.n_steps)[1:-1]
        actions = [*(self.first.toward(self.action, float(way)) for way in t), self.action]
        layers = [plan.layer(action) for action in actions for plan in self.layers]
        return StochasticFlow(self.first, self.action.event_shape(self.shape), layers)
