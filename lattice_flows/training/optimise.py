"""One step of the training, and the state carried from step to step."""

import copy
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.flows import Estimating, Proposer, estimated_log_dets, prior_action
from lattice_flows.theories.action import Action
from lattice_flows.training.clipping import BlockClip, Clip, NormClip
from lattice_flows.training.gradient_noise import GradientNoise
from lattice_flows.training.objectives import Batch, Objective
from lattice_flows.training.precision import network_precision
from lattice_flows.training.ranks import Ranks
from lattice_flows.training.settings import TrainingSettings

_NUMBERS_AT_ONCE = 2**26  # 512 MiB in double precision; a larger batch has other samples where this is changed
_LINEAR = ("path_gradient", "reverse_kl", "forward_kl")  # objectives whose gradient is linear in log_det


class StepInfo(NamedTuple):
    """The step's loss and gradient norm, numbers on the device, and whether both were finite in all steps since the
    last reset.
    """

    loss: Tensor
    gradient_norm: Tensor
    finite: Tensor


class Optimiser:
    """Adam on clipped gradients with the settings' schedules, and the running average of the weights.

    All ranks take the same step, each with the gradient of its share of the batch. A step does not wait for the device.
    """

    def __init__(
        self,
        flow: Proposer,
        settings: TrainingSettings,
        objective: Objective,
        ranks: Ranks,
        numbers_at_once: int = _NUMBERS_AT_ONCE,
    ) -> None:
        self.flow, self.settings, self.objective, self.ranks = flow, settings, objective, ranks
        self.numbers_at_once = numbers_at_once
        self.parameters = list(flow.parameters())
        self.average = copy.deepcopy(flow).requires_grad_(False)
        self._averages: list[Tensor] = list(self.average.parameters())
        self._weights = [weight.detach() for weight in self.parameters]
        betas = (0.9, settings.adam_beta2)
        asked = any(isinstance(part, Estimating) and part.estimates for part in flow.modules())
        self.estimating = asked and settings.objective in _LINEAR
        self.adam = torch.optim.Adam(self.parameters, lr=settings.learning_rate, betas=betas, fused=True)
        self.noise = GradientNoise(self.parameters)
        self.clip: Clip = (
            NormClip(flow, settings.clip_norm) if settings.clip is None else BlockClip(flow, settings.clip)
        )
        self._finite: Tensor | None = None

    def step(
        self,
        action: Action,
        progress: float,
        n_done: int,
        generator: torch.Generator,
        dtype: torch.dtype,
        decay: float = 1.0,
    ) -> StepInfo:
        """The step after `n_done` others, at this progress of the run; `decay` multiplies the learning rate."""
        settings = self.settings
        n = settings.batch_size_at(progress)
        self.adam.zero_grad()
        loss = self._gradient(self.annealed(action, progress), n, generator, dtype)
        norm = self.clip()
        self.noise.measure(self.adam, n_done)
        for group in self.adam.param_groups:
            group["lr"] = decay * settings.learning_rate_at(progress)
        self.adam.step()
        # The average forgets the first weights faster than ema_decay would, as in an arithmetic mean.
        decay = min(settings.ema_decay, (n_done + 1) / (n_done + 11.0))
        torch._foreach_lerp_(self._averages, self._weights, 1.0 - decay)
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        self._finite = finite if self._finite is None else finite & self._finite
        return StepInfo(loss, norm, self._finite)

    def annealed(self, action: Action, progress: float) -> Action:
        """The target at this progress: (1 - t) S_prior + t S, a density for every t, also where exp(-t S) is none.

        Of a flat prior S_prior = 0, and t S stays of the class of S: the special forms of objectives know it. From hot
        it is S / T, the temperature T falling to 1 as a geometric series.
        """
        t = self.settings.action_scale_at(progress)
        if t == 1.0:
            return action
        if self.settings.anneal_from == "hot":
            return action.scaled(self.settings.hot_temperature ** (t - 1.0))
        start = prior_action(self.flow) if self.settings.anneal_from == "prior" else None
        return action.scaled(t) if start is None else action.toward(start, 1.0 - t)

    def _gradient(self, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Leave the gradient of the loss of a batch of n in the parameters; returns the loss."""
        parts = list(self._parts(action, n, generator, dtype))
        with estimated_log_dets(self._estimates(generator) if self.estimating else None):
            losses = [self._backward(action, *part, last=part is parts[-1]) for part in parts]
        return self.ranks.sum_gradients(self.parameters, torch.stack(losses).sum())

    def _backward(self, action: Action, share: float, part: Batch, last: bool) -> Tensor:
        """Add the gradient of a part; return its share of the loss. All parts share the graph of one draw."""
        with network_precision(self.settings.network_precision, part[0].device):
            loss = share * self.objective.loss(self.flow, action, part).loss
            loss.backward(retain_graph=not last)
        return loss.detach()

    def _estimates(self, generator: torch.Generator) -> torch.Generator:
        """A generator for this step and process; the one of the samples stays as it is, and alike in all processes."""
        same = torch.Generator(generator.device)
        same.set_state(generator.get_state())
        seed = int(torch.randint(2**62, (), generator=same, device=generator.device))
        return torch.Generator(generator.device).manual_seed(seed + self.ranks.rank)

    def first_loss(self, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype) -> tuple[float, float]:
        """The loss of a batch of n, and the standard deviation of its log weights."""
        losses, log_w = [], []
        for share, part in self._parts(action, n, generator, dtype):
            with network_precision(self.settings.network_precision, generator.device):
                estimate = self.objective.loss(self.flow, action, part)
            losses.append(share * estimate.loss.detach())
            log_w.append(estimate.log_w)
        loss = self.ranks.gathered(torch.stack(losses).sum()[None], self.ranks.size).sum()
        return float(loss), float(self.ranks.gathered(torch.cat(log_w), n).std())

    def _parts(
        self, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype
    ) -> Iterator[tuple[float, Batch]]:
        """This process's rows of a batch of n, as many at once as the settings allow, each part with its share."""
        own = self._own_rows(action, n, generator, dtype)
        n_own = len(own[0])
        n_parts = -(-n_own // (self.settings.micro_batch or n_own))
        for part in zip(*(rows.tensor_split(n_parts) for rows in own)):
            yield len(part[0]) / n, part

    def _own_rows(self, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype) -> Batch:
        """This process's rows of a batch of n. Those of the others are drawn and dropped, some at a time."""
        own = self.ranks.rows(n)
        row = math.prod(self.flow.prior.shape) * self.settings.samples_per_row
        at_once = max(1, self.numbers_at_once // row)
        kept = []
        for start in range(0, n, at_once):
            drawn = self.objective.draw(self.flow, action, min(at_once, n - start), generator, dtype)
            here = slice(max(own.start - start, 0), max(own.stop - start, 0))
            kept.append(tuple(rows[here] for rows in drawn))
        return kept[0] if len(kept) == 1 else tuple(map(torch.cat, zip(*kept)))

    def forget_finite(self) -> None:
        """Restart the watch for values that are not finite."""
        self._finite = None
