"""Roots of increasing functions of one variable, many at once."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

_TOLERANCE = 1e-12  # of the root in radians, float64
_ITERATIONS = 64  # far more than Newton needs; bisection alone would need 45
_ROUNDING = 100.0  # tolerances that a root may be off by: the function itself is rounded, and may be flat
_CHECK_EVERY = 8  # iterations between two looks at the error
_UNSEEN = 40  # iterations where nobody looks, for a look would wait for the device: wild splines of 100 bins took 37

Function = Callable[[Tensor], tuple[Tensor, Tensor]]
"""f(x) and its derivative, which is above 0, both shaped like x, an angle."""

_State = tuple[Tensor, Tensor, Tensor, Tensor]  # x, the size of the last step, the bracket


def root_of(f: Function, start: Tensor, half_width: float, what: str, settle: bool = True) -> Tensor:
    """The x of f(x) = 0 within `half_width` of start, by Newton steps that fall back to bisection. Without gradients.

    settle: whether a root stays once a step to it was small enough. Otherwise, on the CPU, the steps after it, which
    are all rounding, count as bad ones, and bisection goes on to the end: that takes four to sixteen times as long, and
    only the last digits of results of before are a reason for it.

    On the CPU raises RuntimeError, which begins with `what`, where a root is not found; elsewhere, and compiled, that
    one is not a number.
    """
    tolerance = max(_TOLERANCE, 8.0 * torch.finfo(start.dtype).eps)
    state = start, torch.full_like(start, math.inf), start - half_width, start + half_width
    if start.device.type != "cpu" or torch.compiler.is_compiling():
        for _ in range(_UNSEEN):
            state = _settled(state, _iteration(f, *state), tolerance)
        return torch.where(state[1] <= tolerance, state[0], math.nan)  # seen as a weight that is no number
    for iteration in range(1, _ITERATIONS + 1):
        after = _iteration(f, *state)
        state = _settled(state, after, tolerance) if settle else after
        if iteration % _CHECK_EVERY == 0 and bool((state[1] <= tolerance).all()):
            return state[0]
    _require_solved(f, state[0], tolerance, what)
    return state[0]


def _settled(before: _State, after: _State, tolerance: float) -> _State:
    """The state after an iteration, but where the one before it was good enough."""
    x, error, *_ = before
    keep = error <= tolerance
    return torch.where(keep, x, after[0]), torch.where(keep, error, after[1]), after[2], after[3]


def _require_solved(f: Function, x: Tensor, tolerance: float, what: str) -> None:
    """Raise RuntimeError if f(x) is not 0: by more than rounding, at the steepest slope."""
    excess, slope = f(x)
    off = excess.abs() / slope
    unsolved = off > _ROUNDING * tolerance  # False for what is not a number, which spoils the loss and is told there
    if bool(unsolved.any()):
        raise RuntimeError(
            f"{what}: {int(unsolved.sum())} of {unsolved.numel()} angles are not solved after {_ITERATIONS} "
            f"iterations; the worst is off by {float(off[unsolved].max()):.3g} rad"
        )


def _iteration(f: Function, x: Tensor, last: Tensor, low: Tensor, high: Tensor) -> _State:
    """The next x, the size of the step to it, and the bracket."""
    excess, slope = f(x)
    low, high = torch.where(excess < 0, x, low), torch.where(excess > 0, x, high)
    step = excess / slope
    newton = x - step
    # Newton must stay inside and halve its step, or the bracket is halved instead.
    trusted = (newton >= low) & (newton <= high) & (step.abs() < 0.5 * last)
    error = torch.where(trusted, step.abs(), 0.5 * (high - low))
    return torch.where(trusted | (excess == 0), newton, 0.5 * (low + high)), error, low, high
