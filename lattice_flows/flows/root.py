"""Roots of increasing functions of one variable, many at once.

The inverse of a `ProjectionMixture` has the same search with a rule of its own for when it ends: the last digits of
chains and trainings of before depend on it.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

_TOLERANCE = 1e-12  # of the root, float64
_ITERATIONS = 64  # far more than Newton needs; bisection alone would need 45
_CHECK_EVERY = 4  # iterations between two looks at the error
_UNSEEN = 48  # iterations where nobody looks, for a look would wait for the device: bisection alone needs 45
_ROUNDING = 100.0  # tolerances that a root may be off by: the function itself is rounded, and may be flat

Function = Callable[[Tensor], tuple[Tensor, Tensor]]
"""f(x) and its derivative, which is above 0, both shaped like x."""

_State = tuple[Tensor, Tensor, Tensor, Tensor]  # x, the size of the last step, the bracket


def root_of(f: Function, start: Tensor, half_width: float, what: str) -> Tensor:
    """The x of f(x) = 0 within `half_width` of start, by Newton steps that fall back to bisection. Without gradients.

    On the CPU raises RuntimeError, which begins with `what`, where one is not found; elsewhere, and compiled, that one
    is not a number.
    """
    tolerance = max(_TOLERANCE, 8.0 * torch.finfo(start.dtype).eps)
    state = start, torch.full_like(start, math.inf), start - half_width, start + half_width
    if start.device.type != "cpu" or torch.compiler.is_compiling():
        for _ in range(_UNSEEN):
            state = _iteration(f, tolerance, *state)
        return torch.where(state[1] <= tolerance, state[0], math.nan)  # seen as a weight that is no number
    for iteration in range(1, _ITERATIONS + 1):
        state = _iteration(f, tolerance, *state)
        if iteration % _CHECK_EVERY == 0 and bool((state[1] <= tolerance).all()):
            return state[0]
    _require_solved(f, state[0], tolerance, what)
    return state[0]


def _require_solved(f: Function, x: Tensor, tolerance: float, what: str) -> None:
    """Raise RuntimeError if f(x) is not 0: by more than rounding, at the steepest slope."""
    excess, slope = f(x)
    off = excess.abs() / slope
    unsolved = off > _ROUNDING * tolerance  # False for what is not a number, which spoils the loss and is told there
    if bool(unsolved.any()):
        raise RuntimeError(
            f"{what}: {int(unsolved.sum())} of {unsolved.numel()} equations are not solved after "
            f"{_ITERATIONS} iterations; the worst root is off by {float(off[unsolved].max()):.3g}"
        )


def _iteration(f: Function, tolerance: float, x: Tensor, last: Tensor, low: Tensor, high: Tensor) -> _State:
    """The next x, the size of the step to it, and the bracket. What is settled stays: its steps are all rounding."""
    excess, slope = f(x)
    low, high = torch.where(excess < 0, x, low), torch.where(excess > 0, x, high)
    step = excess / slope
    newton = x - step
    # Newton must stay inside and halve its step, or the bracket is halved instead.
    trusted = (newton >= low) & (newton <= high) & (step.abs() < 0.5 * last)
    error = torch.where(trusted, step.abs(), 0.5 * (high - low))
    after = torch.where(trusted | (excess == 0), newton, 0.5 * (low + high))
    settled = last <= tolerance
    return torch.where(settled, x, after), torch.where(settled, last, error), low, high
