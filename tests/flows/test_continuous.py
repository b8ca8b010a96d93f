"""Continuous flows: their velocities, their steps, and that nothing is gained where steps miss the integral."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lattice_flows.flows import (
    REFINED,
    TRAINING_STEP_ERROR,
    Chain,
    ComposedFlow,
    Flow,
    FreeFieldPrior,
    composed,
    estimated_log_dets,
    forward_with_score,
    initialise,
    integrated_parts,
    refine,
)
from lattice_flows.flows.size import size_of
from lattice_flows.flows.transforms import continuous
from lattice_flows.flows.transforms.continuous import ORDERS, ContinuousTransform, Velocity
from lattice_flows.flows.transforms.dense_velocity import DenseVelocity
from lattice_flows.flows.transforms.lattice_velocity import LatticeVelocity, SineSeries
from lattice_flows.statistics import effective_sample_size
from lattice_flows.theories import XY, Action, DoubleWell, Phi4
from lattice_flows.training import TrainingSettings, evaluate, read_checkpoint, train

pytestmark = pytest.mark.quick

Shape = tuple[int, ...]
SHAPES = [(4, 4), (5, 3), (7,), (2, 3, 4)]
PHI4 = Phi4(-4.0, 6.975)
HALF = torch.tensor(0.4, dtype=torch.float64)


def far(velocity: Velocity, size: float = 0.3) -> Velocity:
    """Double precision, and no weight is zero."""
    generator = torch.Generator().manual_seed(1)
    initialise(velocity, generator)
    with torch.no_grad():
        for weight in velocity.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator))
    return velocity.double()


def on_lattice(shape: Shape) -> Velocity:
    return far(LatticeVelocity(shape, 0.5, n_times=3, n_scales=2, n_sines=3, n_knots=4))


def dense(n: int, n_probes: int | None = None) -> Velocity:
    return far(DenseVelocity(n, 0.8, (6, 5), n_probes))


VELOCITIES = [*(pytest.param(on_lattice(s), s, id=str(s)) for s in SHAPES), pytest.param(dense(3), (3,), id="dense")]


def _fields(shape: Shape, generator: torch.Generator, n: int = 3) -> Tensor:
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64)


def _jacobian(f, x: Tensor) -> Tensor:
    """d f / dx of one field (1, *event), (n, n)."""
    copies = x.expand(x.numel(), *x.shape[1:]).clone().requires_grad_(True)
    return torch.autograd.grad(f(copies).flatten(1).diagonal().sum(), copies)[0].flatten(1)


@pytest.mark.parametrize(("velocity", "shape"), VELOCITIES)
def test_divergence_is_the_trace_of_the_jacobian(velocity: Velocity, shape: Shape, generator: torch.Generator) -> None:
    x = _fields(shape, generator, 1)
    trace = _jacobian(lambda x: velocity.velocity(HALF, x)[0], x).trace()
    assert trace.abs() > 1e-3
    torch.testing.assert_close(velocity.velocity(HALF, x)[1][0], trace, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lattice_velocity_has_the_symmetries_of_the_lattice(shape: Shape, generator: torch.Generator) -> None:
    velocity, x = on_lattice(shape), _fields(shape, generator)
    v, divergence = velocity.velocity(HALF, x)
    axes = range(1, len(shape) + 1)
    moves = [
        lambda f: -f,
        *(lambda f, a=a: f.roll(1, a) for a in axes),
        *(lambda f, a=a: f.flip(a) for a in axes),
        *(lambda f, a=a, b=b: f.transpose(a, b) for a, b in itertools.combinations(axes, 2)),
    ]
    for move in moves:
        if move(x).shape == x.shape:
            there, same = velocity.velocity(HALF, move(x))
            torch.testing.assert_close(there, move(v), atol=1e-12, rtol=0)
            torch.testing.assert_close(same, divergence, atol=1e-11, rtol=0)
    assert (v.roll(1, 1) - v).abs().max() > 0.1


def test_modes_by_a_matrix_and_by_fourier_transforms_are_the_same(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    by_matrix, x = on_lattice((4, 6)), _fields((4, 6), generator)
    monkeypatch.setattr("lattice_flows.flows.transforms.lattice_velocity._DENSE", 1)
    by_transform = on_lattice((4, 6))
    for one, other in zip(by_matrix.velocity(HALF, x), by_transform.velocity(HALF, x), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_derivatives_of_the_series_of_sines(generator: torch.Generator) -> None:
    u, a, w = (torch.randn(2, n, generator=generator, dtype=torch.float64).requires_grad_() for n in (5, 3, 3))
    torch.autograd.gradcheck(SineSeries.apply, (u, a, w))


def test_weights_do_not_know_the_volume(generator: torch.Generator) -> None:
    """On a periodic copy they do what they do at home; but the divergence sees that copies move by themselves."""
    small, large, x = on_lattice((4, 3)), on_lattice((8, 9)), _fields((4, 3), generator)
    large.load_state_dict(small.state_dict())
    there = large.velocity(HALF, x.tile(1, 2, 3))[0]
    torch.testing.assert_close(there, small.velocity(HALF, x)[0].tile(1, 2, 3), atol=1e-12, rtol=0)


def _ends(solver, n_steps: int, z: Tensor) -> Tensor:
    with torch.no_grad():
        x, log_det = ContinuousTransform(on_lattice((4, 4)), solver, n_steps).forward(z)
    return torch.cat([x.flatten(1), log_det[:, None]], 1)


def test_one_set_of_weights_does_for_a_family_of_theories(generator: torch.Generator) -> None:
    """They are polynomials in lam: of first order, the velocity in the middle is the mean of those at both ends."""

    def velocity_at(lam: float) -> LatticeVelocity:
        table = {"name": "continuous_lattice", "lam_range": (4.0, 6.0), "n_couplings": 2}
        (part,) = integrated_parts(composed((4, 4), Phi4(-4.0, lam), transforms=(table,)))
        assert isinstance(part, ContinuousTransform)
        assert isinstance(part.velocity, LatticeVelocity)
        return part.velocity

    middle = far(velocity_at(5.0))
    with torch.no_grad():
        for weight in (middle.amplitudes, middle.kernels):
            weight.view(3, 2, -1)[:, 1] = 0.0  # their product would be of second order
    x, found = _fields((4, 4), generator), []
    for lam in (4.0, 5.0, 6.0):
        velocity = velocity_at(lam).double()
        velocity.load_state_dict(middle.state_dict())
        found.append(velocity.velocity(HALF, x)[0])
    torch.testing.assert_close(found[1], 0.5 * (found[0] + found[2]))
    assert (found[2] - found[0]).abs().max() > 0.1


@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_errors_fall_as_the_order_of_the_solver_says(solver: str, generator: torch.Generator) -> None:
    z, factor = _fields((4, 4), generator), 2.0 ** ORDERS[solver]
    exact = _ends("rk4", 100, z)
    coarse, fine = ((_ends(solver, n, z) - exact).norm() for n in (20, 40))
    assert 0.75 * factor < coarse / fine < 1.4 * factor


def test_errors_of_chosen_steps_fall_with_the_tolerance(generator: torch.Generator) -> None:
    z = _fields((4, 4), generator)
    exact = _ends("rk4", 100, z)
    errors = [float((_ends("dopri5", n, z) - exact).abs().max()) for n in (10, 40)]
    assert all(error < 100.0 * n**-5.0 for n, error in zip((10, 40), errors))
    assert errors[1] < 0.02 * errors[0]


@pytest.mark.parametrize(("velocity", "shape"), [VELOCITIES[1], VELOCITIES[-1]])
def test_log_det_inverse_and_score_in_chosen_steps(
    velocity: Velocity, shape: Shape, generator: torch.Generator
) -> None:
    """Those of equal steps are in the contract of the catalogue."""
    transform, z = ContinuousTransform(velocity, "dopri5", 50), _fields(shape, generator, 1)
    x, log_det = transform.forward(z)
    back, inverse_log_det = transform.inverse(x)
    torch.testing.assert_close(back, z, atol=1e-6, rtol=0)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-6, rtol=0)
    assert (x - z).abs().max() > 0.1
    jacobian = _jacobian(lambda z: transform.forward(z)[0], z)
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det[0], atol=1e-6, rtol=0)
    moved = forward_with_score(transform, z, -z)
    end = x.detach().requires_grad_(True)
    back, inverse_log_det = transform.inverse(end)
    (expected,) = torch.autograd.grad((inverse_log_det - 0.5 * back.square().flatten(1).sum(1)).sum(), end)
    torch.testing.assert_close(moved.score, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(moved.log_det, log_det, atol=1e-6, rtol=0)
    assert not moved.score.requires_grad


def test_adjoint_gradients_are_those_of_the_steps_where_these_are_many(generator: torch.Generator) -> None:
    z, found = _fields((4, 4), generator), []
    for gradients in ("steps", "adjoint"):
        transform = ContinuousTransform(on_lattice((4, 4)), "rk4", 15, gradients)  # type: ignore[arg-type]
        x, log_det = transform.forward(z)
        scored = forward_with_score(transform, z, -z)
        (x.square().sum() + log_det.sum() + (scored.x * scored.score).sum()).backward()
        found.append(torch.cat([weight.grad.flatten() for weight in transform.parameters()]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3 * float(found[0].abs().max()))
    assert not torch.equal(*found)


def test_the_estimate_of_the_divergence_has_the_right_mean(generator: torch.Generator) -> None:
    """And five per cent more than that are told from it. The weights take no estimate."""
    velocity = dense(4, n_probes=1)
    one = _fields((4,), generator, 1)
    x = one.expand(60_000, 4).clone().requires_grad_(True)
    estimates = velocity.estimated(x, generator)(HALF, x)[1].detach()
    exact, error = float(velocity.velocity(HALF, one)[1].detach()), float(estimates.std()) / math.sqrt(len(x))
    assert error > 0
    assert abs(float(estimates.mean()) - exact) < 4.0 * error
    assert abs(float(estimates.mean()) - 1.05 * exact) > 4.0 * error
    transform, sure = ContinuousTransform(velocity), ContinuousTransform(dense(4))
    torch.testing.assert_close(transform.forward(one)[1], sure.forward(one)[1])
    assert torch.equal(forward_with_score(transform, one, -one).log_det, transform.forward(one)[1])
    with estimated_log_dets(generator):
        for log_det in (transform.forward(one)[1], forward_with_score(transform, one, -one).log_det):
            assert (log_det - sure.forward(one)[1]).abs().max() > 1e-4


class Growth(Velocity):
    """v = rate x."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def velocity(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.rate * x, x.new_full((len(x),), self.rate * x[0].numel())


def test_steps_that_miss_the_integral_gain_nothing(generator: torch.Generator) -> None:
    """Four steps of rk4 along v = 12 x make x larger by R^4, R = 1 + 3 + 9/2 + 27/6 + 81/24, and not by e^12; the log
    det, 12 at every site, has no such error. So a prior narrower by R^4 gives the free field itself, equal weights, and
    a loss 13 below the least that there is. Twice as many steps tell the error; with as many as that asks for the loss
    is above -log Z, and the ESS that seemed to be 1 is none.
    """
    target = Phi4(0.25, 0.0)
    log_z = target.closed_forms((4, 4)).log_z
    growth = (1.0 + 3.0 + 4.5 + 4.5 + 81.0 / 24.0) ** 4
    transform = ContinuousTransform(Growth(12.0), n_steps=4)
    flow = Flow(FreeFieldPrior((4, 4), 0.25, growth**2), transform)
    claimed = torch.from_numpy(evaluate(flow, target, 500, generator))
    assert -claimed.mean() < -log_z - 13.0
    assert claimed.std() < 1e-8
    z = flow.prior.sample(32, generator)
    assert refine(flow, target, z, aim=math.inf) > 100.0 * TRAINING_STEP_ERROR
    assert refine(flow, target, z) <= REFINED
    honest = torch.from_numpy(evaluate(flow, target, 500, generator))
    assert -honest.mean() > -log_z + 10.0
    assert effective_sample_size(honest.numpy()).value < 0.1


def _train(flow: Flow, action: Action, folder: Path, **options: object) -> None:
    given = {"max_steps": 40, "learning_rate": 0.05, "batch_size": 16, "monitor_every": 40, "monitor_samples": 64}
    train(flow, action, TrainingSettings(**{**given, **options}), folder, seed=1, header={})


def test_a_training_improves_it_and_hands_on_its_steps(tmp_path: Path, generator: torch.Generator) -> None:
    flow = composed((4, 4), PHI4, transforms=({"name": "continuous_lattice", "n_steps": 3},))
    before = effective_sample_size(evaluate(flow, PHI4, 500, generator)).value
    _train(flow, PHI4, tmp_path)
    held = read_checkpoint(tmp_path / "checkpoint.pt")
    (part,) = integrated_parts(flow)
    assert held.integration["n_steps"] == part.n_steps > 3
    assert held.integration["step_error"] <= REFINED
    assert isinstance(flow.transform, Chain)
    assert 0.0 < flow.transform.error < 1e-2
    assert effective_sample_size(evaluate(flow, PHI4, 500, generator)).value > max(0.8, before + 0.2)


def test_estimates_train_vectors_too(tmp_path: Path, generator: torch.Generator) -> None:
    action = DoubleWell()
    flow = composed((), action, transforms=({"name": "continuous", "hidden": (8,), "n_probes": 1, "n_steps": 3},))
    before = evaluate(flow, action, 1000, generator).mean()
    _train(flow, action, tmp_path, max_steps=40, learning_rate=0.02, batch_size=64)
    assert evaluate(flow, action, 1000, generator).mean() > before + 0.3


def test_a_solver_out_of_steps_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    monkeypatch.setattr(continuous, "_MOST_ADAPTIVE_STEPS", 3)
    transform = ContinuousTransform(Growth(9.0), "dopri5", 20)
    told = (
        r"^ContinuousTransform: dopri5 does not arrive with n_steps = 20, a tolerance of 3.13e-07: "
        r"max_num_steps exceeded \(3>=3\)$"
    )
    with pytest.raises(RuntimeError, match=told):
        transform.forward(_fields((3,), generator))


@pytest.mark.parametrize("table", ["continuous_lattice", "continuous"])
def test_weights_are_counted_without_building_it(table: str) -> None:
    plan = ComposedFlow((4, 4), PHI4, transforms=(table,))
    assert size_of(plan, 2**40).n_parameters == sum(weight.numel() for weight in plan.build().parameters())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"solver": "rk5"}, "solver must be one of euler, midpoint, rk4, dopri5, got 'rk5'"),
        ({"gradients": "none"}, 'gradients must be "steps" or "adjoint", got \'none\''),
        ({"n_steps": 0}, "n_steps must be between 1 and 1000, got 0"),
        ({"n_sines": 0}, "n_sines must be between 1 and 50, got 0"),
        ({"n_scales": 11}, "n_scales must be between 1 and 10, got 11"),
        ({"n_times": 0}, "n_times must be between 1 and 20, got 0"),
        ({"n_knots": 1}, "n_knots must be between 2 and 100, got 1"),
        ({"n_couplings": 2}, "n_couplings goes with lam_range"),
        ({"lam_range": (4.0, 6.0)}, r"lam_range = \[4.0, 6.0\] does not hold the theory's lam, 6.975"),
        ({"lam_range": (8.0, 6.0)}, r"lam_range must be two increasing numbers up to 1e\+06, got \[8.0, 6.0\]"),
    ],
    ids=str,
)
def test_bad_values_are_refused(options: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        composed((4, 4), PHI4, transforms=({"name": "continuous_lattice", **options},))


@pytest.mark.parametrize(
    ("shape", "action", "table", "told"),
    [
        ((), DoubleWell(), {"name": "continuous_lattice"}, "needs one number at each site of a lattice"),
        ((4, 4), XY(1.0), {"name": "continuous"}, "maps real numbers, not"),
        ((), DoubleWell(), {"name": "continuous", "hidden": ()}, "hidden must be a list of 1 to"),
        ((), DoubleWell(), {"name": "continuous", "n_probes": 0}, "n_probes must be between 1 and 1000, got 0"),
    ],
    ids=["vectors", "angles", "widths", "probes"],
)
def test_what_it_cannot_map_is_refused(shape: Shape, action: Action, table: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        composed(shape, action, transforms=(table,))
