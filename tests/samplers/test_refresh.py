"""Auxiliary fields that are drawn anew for every trajectory, as pseudofermions are, leave the right target."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels.random import make_streams, normals
from lattice_flows.lattice import REAL
from lattice_flows.samplers import HMC
from lattice_flows.theories import Action, Combined

pytestmark = pytest.mark.quick

N = 4000


@dataclass(frozen=True)
class Single(Action):
    """One number: the field of all actions here."""

    space = REAL
    dimensions: ClassVar[range] = range(1)

    def field(self, lattice_shape):
        return FieldSpec("x", ("coordinate",), (1,))

    def __call__(self, x):
        return 0.5 * (x * x).sum(1, dtype=torch.float64)


def width_squared(x):
    """Of the auxiliary field at x."""
    return 1.0 + 2.0 * x * x


@dataclass(frozen=True)
class Auxiliary(Single):
    """S = y^2 / (2 a(x)) with y normal of variance a(x) = 1 + 2 x^2 at the start: on average the weight sqrt(a(x))."""

    y: Any = None
    factor: float = 1.0  # of the drawn y: 1 is right

    def refresh(self, x, streams):
        noise, streams = normals(streams, 1)
        return replace(self, y=torch.from_numpy(self.factor * noise * np.sqrt(width_squared(x)))), streams

    def __call__(self, x):
        if self.y is None:  # before the first trajectory
            return 0.0 * x.sum(1)
        return (0.5 * self.y * self.y / width_squared(x)).sum(1)


def pull(factor, seed):
    """The pull of <x^2> from exp(-x^2 / 2) sqrt(a(x))."""
    action = Combined(((1.0, Single()), (1.0, Auxiliary(factor=factor))))
    sampler = HMC(action, 1.3, 4)
    state = sampler.init(*action.hot(make_streams(seed, "x", range(N)), (1,)))
    for _ in range(20):
        state, info = sampler.step(state)
    assert info.accepted.mean() > 0.5
    weight = lambda x: np.exp(-0.5 * x * x) * np.sqrt(width_squared(x))  # noqa: E731
    exact = quad(lambda x: x * x * weight(x), -12, 12)[0] / quad(weight, -12, 12)[0]
    squares = state.x[:, 0] ** 2
    return (squares.mean() - exact) / (squares.std() / np.sqrt(N))


def test_the_chain_has_the_target_without_the_auxiliary_field(seed):
    assert abs(pull(1.0, seed)) < 4.5


def test_a_field_drawn_too_wide_is_caught(seed):
    assert abs(pull(1.5, seed)) > 4.5


def test_a_sum_without_auxiliary_fields_is_the_same_after_a_refresh():
    action = Combined(((1.0, Single()), (0.5, Single())))
    streams = make_streams(1, "x", range(3))
    fresh, after = action.refresh(np.zeros((3, 1)), streams)
    assert fresh is action
    np.testing.assert_array_equal(after, streams)
