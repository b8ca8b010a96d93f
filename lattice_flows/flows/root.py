"""Roots of increasing functions of one variable, many at once, and their derivatives."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_TOLERANCE = 1e-12  # of the root in units of the bracket (of an angle: in radians), float64
_ITERATIONS = 64  # far more than Newton needs; bisection alone would need 45
_ROUNDING = 100.0  # tolerances that a root may be off by: the function itself is rounded, and may be flat
_CHECK_EVERY = 8  # iterations between two looks at the error
_UNSEEN = 40  # iterations where nobody looks, for a look would wait for the device: wild splines of 100 bins took 37
_DOUBLINGS, _UNSEEN_DOUBLINGS = 100, 20  # of a bracket, where somebody looks and where nobody does

Function = Callable[[Tensor], tuple[Tensor, Tensor]]
"""f(x) and its derivative, which is above 0, both shaped like x."""

_State = tuple[Tensor, Tensor, Tensor, Tensor]  # x, the size of the last step, the bracket


class Bracket(NamedTuple):
    """The root is within `half_width` of `start`, where the search begins. `unit`: of the tolerance."""

    start: Tensor
    half_width: float | Tensor
    unit: float | Tensor = 1.0


@torch.no_grad()
def between(low: Tensor, high: Tensor) -> Bracket:
    """The bracket of roots on the real line from `low` to `high`; a root is known relative to its size, if above 1."""
    return Bracket(0.5 * (low + high), 0.5 * (high - low), torch.maximum(low.abs(), high.abs()).clamp_min(1.0))


@torch.no_grad()
def doubled(f: Function, start: Tensor, what: str) -> Bracket:
    """A bracket around `start` whose half width was doubled, from 1, until f changes its sign in it.

    On the CPU raises RuntimeError, which begins with `what`, where f does not within 10^30.
    """
    half_width = torch.ones_like(start)
    unseen = start.device.type != "cpu" or torch.compiler.is_compiling()
    for _ in range(_UNSEEN_DOUBLINGS if unseen else _DOUBLINGS):
        outside = (f(start - half_width)[0] > 0) | (f(start + half_width)[0] < 0)
        if not unseen and not bool(outside.any()):
            return between(start - half_width, start + half_width)
        half_width = torch.where(outside, 2.0 * half_width, half_width)
    if not unseen:
        raise RuntimeError(f"{what}: {int(outside.sum())} of {outside.numel()} roots are not bracketed")
    return between(start - half_width, start + half_width)


def solved(f: Function, bracket: Bracket, what: str, n_steps: int = 2, settle: bool = True) -> Tensor:
    """`root_of`, with the derivatives of the implicit function with respect to whatever f is made of.

    No gradient goes through the search: Newton steps from its root have them. The distance of a step's end to the root
    is of second order in the change of a parameter, or that before it squared, so that the derivatives are right up to
    the order 2^n_steps - 1. One step is enough for log q, its gradient and a score; two for the derivatives of these.
    """
    with torch.no_grad():
        x = root_of(f, bracket, what, settle)
    excess, slope = f(x)
    x = x - excess / slope.detach()
    for _ in range(n_steps - 1):
        excess, slope = f(x)
        x = x - excess / slope
    return x


def root_of(f: Function, bracket: Bracket, what: str, settle: bool = True) -> Tensor:
    """The x of f(x) = 0 in the bracket, by Newton steps that fall back to bisection. Without gradients.

    settle: whether a root stays once a step to it was small enough. Otherwise, on the CPU, the steps after it, which
    are all rounding, count as bad ones, and bisection goes on to the end: that takes four to sixteen times as long, and
    only the last digits of results of before are a reason for it.

    On the CPU raises RuntimeError, which begins with `what`, where a root is not found; elsewhere, and compiled, that
    one is not a number.
    """
    start, half_width, unit = bracket
    tolerance = max(_TOLERANCE, 8.0 * torch.finfo(start.dtype).eps) * unit
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


def _settled(before: _State, after: _State, tolerance: float | Tensor) -> _State:
    """The state after an iteration, but where the one before it was good enough."""
    x, error, *_ = before
    keep = error <= tolerance
    return torch.where(keep, x, after[0]), torch.where(keep, error, after[1]), after[2], after[3]


def _require_solved(f: Function, x: Tensor, tolerance: float | Tensor, what: str) -> None:
    """Raise RuntimeError if f(x) is not 0: by more than rounding, at the steepest slope."""
    excess, slope = f(x)
    off = excess.abs() / slope
    unsolved = off > _ROUNDING * tolerance  # False for what is not a number, which spoils the loss and is told there
    if bool(unsolved.any()):
        raise RuntimeError(
            f"{what}: {int(unsolved.sum())} of {unsolved.numel()} roots are not found after {_ITERATIONS} "
            f"iterations; the worst is off by {float(off[unsolved].max()):.3g}"
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
