"""An action that somebody else writes: what is wrong with it is told when chains begin, in one line."""

import logging
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.special import iv

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels.random import make_streams
from lattice_flows.lattice import SU2, Space, Sphere
from lattice_flows.samplers import HMC
from lattice_flows.theories import Action
from lattice_flows.theories.action import _tell_slow

pytestmark = pytest.mark.quick


class Right(Action):
    """S = -0.7 sum of the last components."""

    space: ClassVar[Space] = Sphere(3)

    def field(self, lattice_shape):
        return FieldSpec("spin", ("x0", "component"), (*lattice_shape, 3))

    def __call__(self, x):
        return -0.7 * x[..., -1].sum(1, dtype=torch.float64)


class OfOneNumber(Right):
    def __call__(self, x):
        return super().__call__(x).sum()


class Single(Right):
    def __call__(self, x):
        return super().__call__(x).float()


class WrongForce(Right):
    def force(self, x):
        return x[..., 0]


def begun(action, event):
    return HMC(action, 1.0, 4).init(*action.space.hot(make_streams(1, "x", range(3)), event))


def test_a_right_one_begins_and_keeps_the_target(seed):
    """<exp(-dH)> = 1 on the sphere, and <z> of each spin is coth(0.7) - 1/0.7."""
    action, n = Right(), 4000
    sampler = HMC(action, 1.5, 3)
    state = sampler.init(*action.space.hot(make_streams(seed, "x", range(n)), (2, 3)))
    for _ in range(6):
        state, info = sampler.step(state)
    works = np.exp(-info.delta_h)
    assert abs(works.mean() - 1.0) < 4.5 * works.std() / np.sqrt(n)
    z = state.x[..., -1].mean(1)
    assert abs(z.mean() - (1 / np.tanh(0.7) - 1 / 0.7)) < 4.5 * z.std() / np.sqrt(n)


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (OfOneNumber(), r"OfOneNumber: S of 2 configurations must be \[2\], torch.float64, got \[\], torch.float64"),
        (Single(), r"Single: S of 2 configurations must be .*, got \[2\], torch.float32"),
        (WrongForce(), r"WrongForce: the force must have the shape \[2, 4, 3\], like momenta, got \[2, 4\]"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(action, told):
    with pytest.raises(ValueError, match=told):
        begun(action, (4, 3))


def test_configurations_of_another_space_are_told():
    action = Right()
    told = r"unit vectors of 3 components must end in the axes \(3,\), got the shape \[4, 2\]"
    with pytest.raises(ValueError, match=told):
        HMC(action, 1.0, 4).init(np.ones((3, 4, 2)), make_streams(1, "x", range(3)))


def test_a_class_without_a_space():
    class Homeless(Action):
        def field(self, lattice_shape):
            return FieldSpec("x", ("x0",), lattice_shape)

        def __call__(self, x):
            return x.sum(1)

    with pytest.raises(TypeError, match="Homeless needs an attribute `space`"):
        Homeless()


class Slow(Right):
    pass


def test_it_says_once_that_it_is_slow(caplog):
    _tell_slow.cache_clear()
    x = np.ones((2, 4, 3))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            Slow().evaluate(x)
    (record,) = [record.getMessage() for record in caplog.records]
    assert record.startswith("Slow: no compiled kernels for configurations of shape [4, 3], so torch computes")
    assert "kernel_couplings, see docs/add-a-theory.md" in record


class Group(Action):
    """S = -beta sum Re tr U / 2 of single SU(2) matrices: S = -beta a_0."""

    space: ClassVar[Space] = SU2()

    def field(self, lattice_shape):
        return FieldSpec("u", ("x0", "quaternion"), (*lattice_shape, 4))

    def __call__(self, x):
        return -1.3 * x[..., 0].sum(1, dtype=torch.float64)


class GroupOff(Group):
    """Its force is two per cent too large: acceptance suffers, the distribution does not."""

    def force(self, x):
        return 1.02 * super().force(x)


def test_hmc_on_a_group(seed):
    """<exp(-dH)> = 1, and <a_0> = I_2(beta) / I_1(beta), whatever the force."""
    for action in (Group(), GroupOff()):
        n, sampler = 4000, HMC(action, 1.2, 3)
        state = sampler.init(*action.space.hot(make_streams(seed, "x", range(n)), (1, 4)))
        for _ in range(8):
            state, info = sampler.step(state)
        works = np.exp(-info.delta_h)
        assert abs(works.mean() - 1.0) < 4.5 * works.std() / np.sqrt(n)
        a = state.x[:, 0, 0]
        assert abs(a.mean() - iv(2, 1.3) / iv(1, 1.3)) < 4.5 * a.std() / np.sqrt(n)
