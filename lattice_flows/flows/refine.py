"""How many steps a flow takes that is integrated: so many that more of them would not change its weights."""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lattice_flows.flows.flow import Flow, Proposer
from lattice_flows.theories.action import Action

MAX_STEP_ERROR = 1e-4  # of log w, above which an error is told
TRAINING_STEP_ERROR = 0.1  # of log w: with larger ones reverse KL learns to use what the integral misses
REFINED = 0.25 * MAX_STEP_ERROR  # the errors of map and inverse add up, and other samples have larger ones
_MOST_STEPS = 1000
_FEW = 16  # fields, at which the inverse is looked at
_SAFETY = 20.0  # other fields have larger errors, and the log det of the steps themselves is off by more


@runtime_checkable
class Integrated(Protocol):
    """A transform that is integrated in steps, and so is its log_det."""

    n_steps: int
    error: float

    @property
    def order(self) -> int:
        """The error falls as n_steps to the power -order."""


def state_of_steps(part: Integrated) -> Tensor:
    """n_steps and, once it is known, the error, as torch's extra state: `refine` sets both, and all who use the weights
    take them over."""
    known = [part.error] if math.isfinite(part.error) else []
    return torch.tensor([part.n_steps, *known], dtype=torch.float64)


def restore_steps(part: Integrated, state: Tensor) -> None:
    """Take over what `state_of_steps` has given."""
    n_steps, *known = state.tolist()
    part.n_steps, part.error = int(n_steps), known[0] if known else math.inf


def integrated_parts(flow: Proposer) -> list[Integrated]:
    """The transforms of the flow that are integrated."""
    return [part for part in flow.modules() if isinstance(part, Integrated)]


def refine(flow: Flow, action: Action, z: Tensor, aim: float = REFINED) -> float:
    """Let every integrated transform of the flow take as many steps as log w asks for, and estimate its `error`.

    Returns the step error: the largest change of log w = -S - log q of the images of z (n, *event) with twice as many
    steps. Steps are added until it is at most `aim`, or not finite, or there are a thousand of them.
    """
    parts = integrated_parts(flow)
    error = _change(parts, lambda: _log_w(flow, action, z))
    while aim < error < math.inf and max(part.n_steps for part in parts) < _MOST_STEPS:
        slowest = min(part.order for part in parts)
        factor = min(max(1.1, 1.05 * (error / aim) ** (1 / slowest)), 8.0)
        for part in parts:
            part.n_steps = math.ceil(factor * part.n_steps)
        error = _change(parts, lambda: _log_w(flow, action, z))
    of_inverse = _change(parts, lambda: flow.log_prob(z[:_FEW]).double())
    for part in parts:
        part.error = _SAFETY * max(error, of_inverse)
    return error


def _change(parts: list[Integrated], of: Callable[[], Tensor]) -> float:
    """The largest change of what `of` returns with twice as many steps; infinite where it is not finite."""
    with torch.no_grad():
        single = of()
        for part in parts:
            part.n_steps *= 2
        double = of()
    for part in parts:
        part.n_steps //= 2
    return float((double - single).abs().nan_to_num(nan=math.inf).max())


def _log_w(flow: Flow, action: Action, z: Tensor) -> Tensor:
    x, log_q = flow.image(z)
    return -action(x) - log_q.double()
