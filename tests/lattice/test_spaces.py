"""What every space must satisfy, over a registry of spaces."""

import math
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from random_fields import random_field

from lattice_flows.kernels.random import make_streams, normals
from lattice_flows.lattice import CIRCLE, REAL, SU2, Discrete, Interval, Mixed, Product, Space, Sphere

pytestmark = pytest.mark.quick

N = 40_000


@dataclass(frozen=True)
class SpaceCase:
    """A space, and the shape of a configuration of a few variables."""

    space: Space
    event: tuple[int, ...]

    @property
    def flat(self) -> bool:
        return self.space.variable_shape == self.space.tangent_shape == ()


MANIFOLDS = [
    SpaceCase(CIRCLE, (3,)),
    SpaceCase(REAL, (3,)),
    SpaceCase(Interval(-0.5, 2.0), (3,)),
    SpaceCase(Sphere(2), (2, 2)),
    SpaceCase(Sphere(3), (2, 3)),
    SpaceCase(SU2(), (2, 4)),
    SpaceCase(Mixed((2, 3), (2, 5)), (2, 3)),
    SpaceCase(Product((CIRCLE, Interval(-1.0, 1.0), Sphere(3))), (2, 5)),
]
DISCRETE = [SpaceCase(Discrete((-1, 1)), (3, 4)), SpaceCase(Discrete(tuple(range(5))), (6,))]


def name(case):
    return f"{case.space}"


@pytest.fixture(params=MANIFOLDS, ids=name)
def case(request):
    return request.param


@pytest.fixture(params=MANIFOLDS + DISCRETE, ids=name)
def any_case(request):
    return request.param


@pytest.fixture
def x(case, generator):
    return random_field(case.space, 5, case.event, generator)


def fresh_momenta(case, x, seed):
    momenta, _ = case.space.momenta(x.numpy(), make_streams(seed, "momenta", range(len(x))))
    return torch.from_numpy(momenta)


def distance(case, a, b):
    """Between fields, modulo whole turns."""
    if case.space is CIRCLE or isinstance(case.space, Mixed):
        return float(case.space.wrap(a - b).abs().max())
    if isinstance(case.space, Product):
        a, b = a.clone(), b.clone()
        a[..., 0], b[..., 0] = CIRCLE.wrap(a[..., 0] - b[..., 0]), 0.0
    return float((a - b).abs().max())


def test_shapes(case, x, seed):
    momenta = fresh_momenta(case, x, seed)
    assert x.shape == (5, *case.event)
    assert momenta.shape == (5, *case.space.tangent_event(case.event))
    assert case.space.kinetic(momenta).shape == (5,)
    end, p = case.space.drift(x, momenta, 0.3)
    assert (end.shape, p.shape) == (x.shape, momenta.shape)
    assert case.space.tangent(x, torch.ones_like(x)).shape == momenta.shape


def test_free_motion_is_reversible_and_keeps_the_energy(case, x, seed):
    momenta = fresh_momenta(case, x, seed)
    end, p = case.space.drift(x, momenta, 1.7)
    torch.testing.assert_close(case.space.kinetic(p), case.space.kinetic(momenta), rtol=1e-12, atol=0)
    back, q = case.space.drift(case.space.wrap(end), -p, 1.7)
    assert distance(case, back, x) < 1e-12
    torch.testing.assert_close(q, -momenta, rtol=0, atol=1e-12)


def test_free_motion_is_a_flow(case, x, seed):
    """Two times after each other are their sum."""
    momenta = fresh_momenta(case, x, seed)
    once, p = case.space.drift(x, momenta, 1.1)
    middle, q = case.space.drift(x, momenta, 0.4)
    twice, q = case.space.drift(middle, q, 0.7)
    assert distance(case, once, twice) < 1e-12
    torch.testing.assert_close(p, q, rtol=0, atol=1e-12)


def test_it_stays_in_the_space(any_case, generator, seed):
    space = any_case.space
    x = random_field(space, 50, any_case.event, generator)
    assert space.fault(x) is None
    moved, _ = space.perturb(x.numpy(), make_streams(seed, "perturb", range(50)), 0.7)
    assert moved.dtype == space.dtype
    assert space.fault(torch.from_numpy(moved)) is None
    assert not np.array_equal(moved, x.numpy())
    cold = np.broadcast_to(space.cold(any_case.event), (50, *any_case.event))
    assert (cold.shape, cold.dtype) == (x.shape, space.dtype)
    assert space.fault(torch.from_numpy(cold.copy())) is None
    torch.testing.assert_close(space.wrap(x), x, rtol=0, atol=1e-15)


def test_storing_in_single_precision_and_back(any_case, generator):
    x = random_field(any_case.space, 200, any_case.event, generator).numpy()
    dtype = "float32" if any_case.space.dtype == "float64" else any_case.space.dtype
    stored = any_case.space.stored(x, dtype)
    assert stored.dtype == dtype
    back = torch.from_numpy(stored.astype(x.dtype))
    assert any_case.space.fault(back) is None
    np.testing.assert_allclose(back, x, rtol=0, atol=3e-7)


def test_ends_of_an_interval_and_of_the_circle_survive_single_precision():
    for space, ends in ((CIRCLE, [-math.pi, np.nextafter(math.pi, 0)]), (Interval(0.1, 0.7), [0.1, 0.7])):
        back = space.stored(np.array([ends]), "float32").astype(np.float64)
        assert space.wrap(torch.from_numpy(back)).numpy() == pytest.approx(back, abs=0)


def charts(space, base):
    """Coordinates near a point, orthonormal there: u -> x, x -> u, and the frame (tangent vectors) at any x near it."""
    if isinstance(space, Sphere):
        frame = torch.linalg.svd(base[None])[2][1:]  # (n - 1, n), orthogonal to the base

        def frame_at(x):
            q = torch.linalg.qr(torch.cat([x[None], frame]).T).Q.T[1:]
            return q

        def x_of(u):
            y = base + u @ frame
            return y / y.norm()

        return x_of, lambda x: (x @ frame.T) / (x @ base), frame_at
    if isinstance(space, SU2):
        generators = torch.eye(3, dtype=base.dtype)

        def x_of(u):
            return space.drift(base[None], u[None], 1.0)[0][0]

        def u_of(x):
            conjugate = base * torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=base.dtype)
            a, b, c, d = x[0], x[1:], conjugate[0], conjugate[1:]
            scalar, vector = a * c - b @ d, a * d + c * b - torch.linalg.cross(b, d)
            return torch.atan2(vector.norm(), scalar) * vector / vector.norm()

        return x_of, u_of, lambda x: generators
    return lambda u: u, lambda x: x, lambda x: torch.eye(len(base), dtype=base.dtype)


def volume(space, x_of, u, frame_at):
    """d vol / d u of the chart at u."""
    jacobian = torch.autograd.functional.jacobian(x_of, u)  # (ambient, u)
    if isinstance(space, SU2):  # components of the velocity by p of exp(i p.sigma) x
        x = x_of(u)
        velocities = torch.autograd.functional.jacobian(
            lambda p: space.drift(x[None], p[None], 1.0)[0][0], 1e-9 + 0 * u
        )
        jacobian = torch.linalg.pinv(velocities) @ jacobian
        return torch.linalg.det(jacobian).abs()
    return torch.linalg.det(jacobian.T @ jacobian).sqrt()


@pytest.mark.parametrize("space", [Sphere(2), Sphere(3), Sphere(4), SU2()], ids=str)
def test_free_motion_preserves_the_volume_of_curved_phase_space(space, generator, seed):
    """The determinant of (u, v) -> (u', v'), by differentiation, with the volumes of the charts at both ends."""
    case = SpaceCase(space, space.variable_shape)
    start = random_field(space, 1, case.event, generator)
    momenta = fresh_momenta(case, start, seed)
    end, _ = space.drift(start, momenta, 0.8)
    # Bases a little away, where no coordinate is singular.
    from_x, _, from_frame = charts(space, space.wrap(start + 0.1)[0])
    to_x, to_u, to_frame = charts(space, space.wrap(end + 0.1)[0])
    _, from_u, _ = charts(space, space.wrap(start + 0.1)[0])
    u = from_u(start[0])
    v = from_frame(start[0]) @ momenta[0]
    d = len(u)

    def flow(state):
        x = from_x(state[:d])
        p = state[d:] @ from_frame(x)
        y, q = space.drift(x[None], p[None], 0.8)
        return torch.cat([to_u(y[0]), to_frame(y[0]) @ q[0]])

    jacobian = torch.autograd.functional.jacobian(flow, torch.cat([u, v]))
    after = flow(torch.cat([u, v]))
    ratio = volume(space, to_x, after[:d], to_frame) / volume(space, from_x, u, from_frame)
    assert float(torch.linalg.det(jacobian).abs() * ratio) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("case", [case for case in MANIFOLDS if case.flat], ids=name)
def test_free_motion_preserves_the_volume_of_flat_phase_space(case, generator, seed):
    x = random_field(case.space, 1, case.event, generator)
    momenta = fresh_momenta(case, x, seed)
    n = x.numel()

    def flow(state):
        end, p = case.space.drift(state[:n][None], state[n:][None], 2.3)
        return torch.cat([end[0], p[0]])

    jacobian = torch.autograd.functional.jacobian(flow, torch.cat([x[0], momenta[0]]))
    assert abs(float(torch.linalg.det(jacobian))) == pytest.approx(1.0, abs=1e-12)


def test_tangent_derivatives_are_those_along_free_motion(case, x, seed):
    """d/dt f(x(t)) = tangent(gradient) . p for a function of the components."""
    weights = torch.linspace(0.3, 1.7, x[0].numel(), dtype=x.dtype).view(case.event)

    def f(field):
        return (torch.sin(field) * weights).flatten(1).sum(1)

    y = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(f(y).sum(), y)
    momenta = fresh_momenta(case, x, seed)
    slope = (case.space.tangent(x, gradient) * momenta).flatten(1).sum(1)
    h = 1e-5
    ahead, behind = (f(case.space.drift(x, momenta, step)[0]) for step in (h, -h))
    torch.testing.assert_close((ahead - behind) / (2 * h), slope, rtol=0, atol=1e-7)


def moments(x):
    """Pulls of the means and of the second moments of unit vectors of n components from 0 and 1 / n."""
    n, samples = x.shape[-1], x.reshape(len(x), -1, x.shape[-1]).mean(1)
    squares = (x**2).reshape(len(x), -1, n).mean(1)
    return np.concatenate(
        [
            samples.mean(0) / (samples.std(0) / math.sqrt(len(x))),
            (squares.mean(0) - 1.0 / n) / (squares.std(0) / math.sqrt(len(x))),
        ]
    )


@pytest.mark.parametrize(("space", "event"), [(Sphere(2), (2, 2)), (Sphere(3), (2, 3)), (SU2(), (4,))], ids=str)
def test_a_hot_start_is_uniform(space, event, seed):
    x, _ = space.hot(make_streams(seed, "hot", range(N)), event)
    assert np.abs(moments(x)).max() < 4.5
    bent = x + 0.04  # its mean is off by 0.02 or more, eight errors
    assert np.abs(moments(bent / np.linalg.norm(bent, axis=-1, keepdims=True))).max() > 4.5


def test_a_hot_start_of_numbers_is_uniform(seed):
    for space, low, high in ((CIRCLE, -math.pi, math.pi), (Interval(-0.5, 2.0), -0.5, 2.0)):
        x, _ = space.hot(make_streams(seed, "hot", range(N)), (2,))
        u = np.sort((x.ravel() - low) / (high - low))
        distance = np.abs(u - (np.arange(u.size) + 0.5) / u.size).max() * math.sqrt(u.size)  # Kolmogorov-Smirnov
        assert distance < 1.95  # passed by all but one in 1000


@pytest.mark.parametrize("case", DISCRETE, ids=name)
def test_a_hot_start_of_integers_takes_all_states_alike(case, seed):
    x, _ = case.space.hot(make_streams(seed, "hot", range(N)), case.event)
    states, counts = np.unique(x, return_counts=True)
    assert tuple(states) == case.space.states
    expected = x.size / len(states)
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < len(states) + 5.0 * math.sqrt(2 * len(states))


def test_momenta_are_normal_in_the_tangent_space(case, seed):
    """<p^2> is the dimension of the tangent space; two per cent too much would be seen."""
    x, streams = case.space.hot(make_streams(seed, "hot", range(4000)), case.event)
    momenta, _ = case.space.momenta(x, streams)
    twice = 2.0 * case.space.kinetic(momenta)
    dimension = {Sphere: lambda s: s.n - 1, SU2: lambda s: 3, Product: lambda s: 1 + 1 + 2, Mixed: lambda s: 6}.get(
        type(case.space), lambda s: 1
    )(case.space)
    n = dimension * math.prod(case.event[: len(case.event) - len(case.space.variable_shape)])
    pull = (twice.mean() - n) / math.sqrt(2.0 * n / 4000)
    assert abs(pull) < 4.5
    if isinstance(case.space, Sphere):
        assert np.abs((momenta * x).sum(-1)).max() < 1e-12


@pytest.mark.parametrize("space", [Sphere(3), SU2(), Interval(0.0, 1.0), Discrete((0, 1, 2))], ids=str)
def test_perturbations_leave_the_reference_measure(space, seed):
    """Moved uniform variables are uniform: a proposal that is not symmetric would show."""
    event = space.variable_shape or (1,)
    x, streams = space.hot(make_streams(seed, "hot", range(N)), event)
    for _ in range(5):
        x, streams = space.perturb(x, streams, 0.4)
    if space.variable_shape:
        assert np.abs(moments(x[:, None])).max() < 4.5
    else:
        states = np.unique(x) if space.dtype == "int8" else None
        u = x.ravel().astype(float) if states is None else x.ravel() / 2.0
        pull = (u.mean() - 0.5) / (u.std() / math.sqrt(u.size))
        assert abs(pull) < 4.5
        second = {None: 1.0 / 3.0}.get(states if states is None else "q", 5.0 / 12.0)
        assert abs((u**2).mean() - second) < 4.5 * (u**2).std() / math.sqrt(u.size)


def test_a_discrete_variable_changes_with_the_given_probability(seed):
    space = Discrete((0, 1, 2, 3))
    x, streams = space.hot(make_streams(seed, "hot", range(N)), (1,))
    moved, _ = space.perturb(x, streams, 0.3)
    pull = ((moved != x).mean() - 0.3) / math.sqrt(0.3 * 0.7 / N)
    assert abs(pull) < 4.5


def test_faults_are_told():
    wrong = [
        (CIRCLE, torch.tensor([[0.0, 4.0]]), "4, beyond pi"),
        (Interval(0.0, 1.0), torch.tensor([[0.5, 1.5]]), r"1.5 is outside \[0, 1\]"),
        (Sphere(3), torch.tensor([[[1.0, 0.1, 0.0]]]), "off by"),
        (SU2(), torch.tensor([[[1.0, 0.1, 0.0, 0.0]]]), "off by"),
        (Discrete((-1, 1)), torch.tensor([[1, 0]], dtype=torch.int8), "0 is none of -1, 1"),
        (Product((REAL, Interval(0.0, 1.0))), torch.tensor([[9.0, 2.0]]), "2 is outside"),
        (Mixed((2,), (1,)), torch.tensor([[9.0, 4.0]]), "4, beyond pi"),
    ]
    for space, x, text in wrong:
        told = space.fault(x)
        assert told is not None
        assert re.search(text, told)


def test_spaces_of_nonsense_are_refused():
    for make in (
        lambda: Interval(1.0, 1.0),
        lambda: Mixed((2, 3), (6,)),
        lambda: Interval(0.0, math.inf),
        lambda: Sphere(1),
        lambda: Discrete((1,)),
        lambda: Discrete((1, -1)),
        lambda: Discrete((0, 200)),
        lambda: Product(()),
        lambda: Product((Discrete((0, 1)),)),
    ):
        with pytest.raises(ValueError, match=r"need|must|made of"):
            make()


def test_there_is_no_molecular_dynamics_of_integers():
    with pytest.raises(ValueError, match="no molecular dynamics of the integers -1, 1"):
        Discrete((-1, 1)).momenta(np.ones((2, 3), np.int8), make_streams(1, "x", range(2)))


def test_momenta_of_numbers_are_the_normal_deviates_of_their_streams():
    """What chains of older files continue with."""
    streams = make_streams(3, "chain", range(4))
    expected, after = normals(streams, 6)
    for space in (CIRCLE, REAL):
        momenta, left = space.momenta(np.zeros((4, 2, 3)), streams)
        np.testing.assert_array_equal(momenta.reshape(4, 6), expected)
        np.testing.assert_array_equal(left, after)
