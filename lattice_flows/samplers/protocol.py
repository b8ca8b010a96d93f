"""Protocols of annealing: how the way t from the first action to the last depends on the time, and which is best."""

import math
from collections.abc import Sequence

import numpy as np

from lattice_flows.samplers.sampler import Array

LINEAR = (0.0, 1.0)
N_KNOTS = 17  # of a protocol that is tuned
_LEAST = 1e-3  # of the mean friction: keeps the speed finite where the work hardly fluctuates
_DIGITS = 5  # of a protocol that is tuned
MOST_STEPS = 10**5  # no signal is heard on the way


def check_protocol(protocol: Sequence[float]) -> None:
    """Raise ValueError for anything but numbers that rise from 0 to 1."""
    values = list(protocol)
    if len(values) < 2 or values[0] != 0 or values[-1] != 1 or not (np.diff(values) > 0).all():
        raise ValueError(f"protocol must hold two numbers or more that rise from 0 to 1, got {values}")


def check_steps(n_steps: int) -> None:
    """Raise ValueError for a number of steps that makes no path."""
    if not 1 <= n_steps <= MOST_STEPS:
        raise ValueError(f"n_steps must be between 1 and {MOST_STEPS}, got {n_steps}")


def times(protocol: Sequence[float], n_steps: int) -> Array:
    """t_0 = 0, ..., t_n = 1, (n_steps + 1,): the protocol's values belong to equally spaced times, linear between."""
    t = np.interp(np.linspace(0.0, 1.0, n_steps + 1), np.linspace(0.0, 1.0, len(protocol)), protocol)
    t[-1] = 1.0
    return t


def improved_protocol(t: Array, slopes: Array) -> tuple[float, ...]:
    """The protocol of `N_KNOTS` values that makes the work fluctuate least, from paths at the times t (n + 1,).

    slopes: dS/dt before each step, (n, B).

    To leading order in the speed the variance of the work is the integral of zeta(t) (dt/ds)^2 over the time s, with
    the friction zeta(t), the time integral of the fluctuations of dS/dt; it is least where zeta (dt/ds)^2 is constant
    (D. A. Sivak and G. E. Crooks, arXiv:1201.4166). Each step adds cov(dS/dt, W) dt to the variance of W, and so tells
    zeta dt/ds.
    """
    n, n_paths = slopes.shape
    dt = np.diff(t)
    work = (dt[:, None] * slopes).sum(0)
    covariance = ((slopes - slopes.mean(1, keepdims=True)) * (work - work.mean())).sum(1) / (n_paths - 1)  # (n,)
    middle = 0.5 * (t[1:] + t[:-1])
    edges = np.linspace(0.0, 1.0, min(N_KNOTS, max(2, n // 2)))
    cell = np.clip(np.searchsorted(edges, middle, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(cell, minlength=len(edges) - 1)
    # Means over cells of t: the covariances of single steps are noisy.
    friction = np.bincount(cell, covariance / (n * dt), minlength=len(edges) - 1) / np.maximum(counts, 1)
    seen = counts > 0
    friction = np.interp(np.arange(len(seen)), np.flatnonzero(seen), friction[seen])
    friction = np.maximum(friction, _LEAST * max(float(friction.mean()), math.ulp(0.0)))
    length = np.concatenate([[0.0], np.cumsum(np.sqrt(friction) * np.diff(edges))])
    values = np.interp(np.linspace(0.0, length[-1], N_KNOTS), length, edges)
    # Rounded: the last digits of sums differ between machines, and all paths would differ with them.
    return (0.0, *(float(round(value, _DIGITS)) for value in values[1:-1]), 1.0)
