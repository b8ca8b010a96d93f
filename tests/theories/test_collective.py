"""What every collective variable must satisfy, over the registry of actions, and those of somebody else's theories."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from cases import ACTION_CASES

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels.random import make_streams
from lattice_flows.lattice import REAL, Space, Sphere
from lattice_flows.samplers import HMC, Umbrella
from lattice_flows.samplers.biased_chains import Bias, _Biased, begun, biased_trajectories, check_variable
from lattice_flows.samplers.integrators import INTEGRATORS, integrate
from lattice_flows.theories import Action, CollectiveVariable, Combined, Phi4, WilsonU1
from lattice_flows.theories.phi4.collective import MAGNETISATION


class DoubleWell(Action):
    """S = 2 (x^2 - 1)^2 of one number, a target without a lattice."""

    space: ClassVar[Space] = REAL
    dimensions = range(1)
    collective_variables: ClassVar = {
        "x": CollectiveVariable(lambda x: x[:, 0].copy(), np.ones_like, symbol="x", odd=True)
    }

    def field(self, lattice_shape):
        return FieldSpec("x", ("coordinate",), (1,))

    def __call__(self, x):
        return 2.0 * (x[:, 0] ** 2 - 1.0) ** 2


def _mean_spin(x):
    return x[..., 2].mean(1)


def _gradient_of_mean_spin(x):
    """The part of e_z / V that is tangent to the sphere at x."""
    along = np.zeros_like(x)
    along[..., 2] = 1.0
    return (along - x[..., 2:] * x) / x.shape[1]


class Spins(Action):
    """S = -0.7 sum of the first components of unit vectors."""

    space: ClassVar[Space] = Sphere(3)
    collective_variables: ClassVar = {
        "other": CollectiveVariable(lambda x: x[..., 0].mean(1), _gradient_of_mean_spin, symbol="m_x"),
        "magnetisation": CollectiveVariable(_mean_spin, _gradient_of_mean_spin, symbol="m", odd=True),
    }

    def field(self, lattice_shape):
        return FieldSpec("spin", ("x0", "component"), (*lattice_shape, 3))

    def __call__(self, x):
        return -0.7 * x[..., 0].sum(1)


CASES = [
    pytest.param(case.action, case.event, name, id=f"{case.name}, {name}")
    for case in ACTION_CASES
    for name in case.action.collective_variables
    if case.name not in ("u1 3x4x3", "dimer_bath")  # whose charge is none of one plane; whose bath is chaotic
]
CASES += [
    pytest.param(DoubleWell(), (1,), "x", id="double well"),
    pytest.param(Spins(), (4, 3), "magnetisation", id="spins"),
]


over_cases = pytest.mark.parametrize(("action", "event", "name"), CASES)


def derivative(action, variable, x, direction):
    """Of s along free motion in this direction, by five-point differences."""
    h = 1e-3

    def at(time):
        return variable.value(action.space.drift(x, direction, time)[0].numpy())

    return (8.0 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12.0 * h)


def hot(action, n, event, generator):
    """n of its hot starts: those of some actions keep away from forces that no step follows."""
    keys = torch.randint(2**62, (n,), generator=generator).numpy().astype(np.uint64)
    return torch.from_numpy(action.hot(np.stack([keys, np.zeros_like(keys)], axis=1), event)[0])


def largest_error(action, event, variable, generator):
    x = hot(action, 3, event, generator)
    direction = torch.from_numpy(np.random.default_rng(1).normal(size=(3, *action.space.tangent_event(event))))
    direction = action.space.tangent(x, direction)
    along = (variable.gradient(x.numpy()) * direction.numpy()).reshape(3, -1).sum(1)
    return np.abs(along - derivative(action, variable, x, direction)).max()


@over_cases
def test_the_gradient_is_that_of_the_value(action, event, name, generator):
    variable = action.collective_variable(name)
    assert largest_error(action, event, variable, generator) < 1e-9
    check_variable(action, variable, hot(action, 2, event, generator).numpy())


@over_cases
def test_the_sign_of_a_variable(action, event, name, generator):
    variable, x = action.collective_variable(name), hot(action, 3, event, generator).numpy()
    sign = -1.0 if variable.odd else 1.0
    np.testing.assert_allclose(variable.value(-x), sign * variable.value(x), rtol=0, atol=1e-13)


def biased(action, event, variable, generator, rng):
    """Chains with a bias that has a slope everywhere, and a run of the integrator."""
    x = hot(action, 4, event, generator).numpy()
    s = variable.value(x)
    bias = Bias(rng.normal(size=(4, 7)), float(np.abs(s).max() + 0.3), 0.1)
    chains = begun(action, variable, x, make_streams(7, "test", range(4)))
    return HMC(action, 0.2, 8), chains, bias


class InTorch:
    """An action without its compiled form."""

    def kernel_couplings(self, event):
        return None


def in_torch(action):
    kind = type(f"{type(action).__name__}InTorch", (InTorch, type(action)), {})
    return kind(**vars(action))


@over_cases
def test_compiled_and_torch_trajectories_agree(action, event, name, generator, rng):
    variable = action.collective_variable(name)
    sampler, chains, bias = biased(action, event, variable, generator, rng)
    couplings = action.biased_couplings(event, variable, *bias)
    if couplings is None:
        pytest.skip("no compiled form: only the torch path exists")
    slow = HMC(in_torch(action), 0.2, 8)
    one, *rest = biased_trajectories(sampler, variable, chains, bias, 2)
    other, *others = biased_trajectories(slow, variable, chains, bias, 2)
    for found, wanted in zip((*one[:3], *rest), (*other[:3], *others), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(one[3], other[3])
    np.testing.assert_allclose(one[2], variable.value(one[0]), rtol=0, atol=1e-13)


@over_cases
def test_there_and_back(action, event, name, generator, rng):
    """With the momenta turned round a trajectory leads back, whatever the kinks of V."""
    variable = action.collective_variable(name)
    _, (x, *_), bias = biased(action, event, variable, generator, rng)
    target = _Biased(action, variable, bias)
    start = torch.from_numpy(x)
    momenta = torch.from_numpy(action.space.momenta(x, make_streams(3, "test", range(4)))[0])
    end, p = integrate(target, start, momenta, INTEGRATORS["omelyan"], 0.1, 6)
    back, minus_p = integrate(target, end, -p, INTEGRATORS["omelyan"], 0.1, 6)
    np.testing.assert_allclose(back, start, rtol=0, atol=1e-11)
    np.testing.assert_allclose(minus_p, -momenta, rtol=0, atol=1e-11)


def test_a_gradient_two_per_cent_off_is_caught(generator):
    wrong = CollectiveVariable(MAGNETISATION.value, lambda x: 1.02 * MAGNETISATION.gradient(x), symbol="M")
    assert largest_error(Phi4(0.5, 1.0), (6, 4), wrong, generator) > 1e-4


def test_what_is_not_there_is_named():
    class Nameless(Phi4):
        collective_variables: ClassVar = {}

    with pytest.raises(ValueError, match="Nameless names no collective variable"):
        Umbrella(Nameless(1.0, 1.0), 3, q_max=1.0)
    with pytest.raises(ValueError, match="variable must be one of magnetisation, got 'q'"):
        Umbrella(Phi4(1.0, 1.0), 3, q_max=1.0, variable="q")
    with pytest.raises(ValueError, match="centre must be a finite number"):
        Umbrella(Phi4(1.0, 1.0), 3, q_max=1.0, centre=float("nan"))
    assert Umbrella(Spins(), 3, q_max=1.0, variable="magnetisation").windows.coordinate(
        Spins(), {"variable": "magnetisation"}
    ) == ("collective_variable", "m")
    assert Umbrella.windows.coordinate(WilsonU1(1.0), {"variable": None}) == ("smooth_charge", "Q_s")
    assert Umbrella.windows.coordinate(None, {"variable": None}) == ("collective_variable", "s")
    assert Combined(((2.0, Phi4(1.0, 1.0)),)).collective_variable() is MAGNETISATION


@pytest.mark.parametrize("what", ["value", "gradient"])
def test_a_wrong_shape_is_told_when_chains_begin(what):
    class Wrong(Phi4):
        collective_variables: ClassVar = {
            "m": CollectiveVariable(
                (lambda x: x.mean()) if what == "value" else MAGNETISATION.value,
                (lambda x: x[:, 0]) if what == "gradient" else MAGNETISATION.gradient,
                symbol="m",
            )
        }

    with pytest.raises(ValueError, match=f"m of Wrong: the {what} of 2 configurations must have the shape"):
        Umbrella(Wrong(1.0, 1.0), 3, q_max=1.0).init(np.ones((2, 3, 3)), make_streams(1, "test", range(2)))
