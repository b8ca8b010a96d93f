"""On any device: results are there, of the type that was asked for, and equal to the CPU's up to rounding."""

import numpy as np
import pytest
import torch
from cases import ON_DEVICES, ActionCase, WithoutKernels
from devices.registry import PAIR_NAMES, pair_named
from random_fields import random_field
from torch import Tensor

from lattice_flows.flows import Pullback, forward_with_score
from lattice_flows.samplers import HMC, FlowHMC, FlowMetropolis, FlowSamples
from lattice_flows.samplers.proposals import device_of, propose, seeded_generator
from lattice_flows.theories import Action, WilsonU1
from lattice_flows.training import path_gradient, reinforce, reverse_kl

FLOWS = pytest.mark.parametrize("name", PAIR_NAMES)
ACTIONS = pytest.mark.parametrize("case", ON_DEVICES, ids=lambda case: case.name)
N = 5


def _assert_there(found: Tensor, expected: Tensor, device: torch.device, atol: float = 1e-9) -> None:
    """On the device, of the same type and shape; the same numbers."""
    assert found.device.type == device.type
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found.detach().cpu(), expected.detach(), atol=atol, rtol=1e-9)


def _one_by_one(function, *fields: Tensor) -> list[Tensor]:
    """The results on the CPU, configuration by configuration: on the CPU too the comparison is not with itself."""
    parts = [function(*(field[k : k + 1] for field in fields)) for k in range(N)]
    return [torch.cat(rows) for rows in zip(*parts)]


@FLOWS
def test_maps(name: str, device: torch.device) -> None:
    here, there = pair_named(name), pair_named(name)
    transform = there.flow.to(device).transform
    z = here.field(N, "cpu")
    for direction in ("forward", "inverse"):
        expected = _one_by_one(getattr(here.flow.transform, direction), z)
        for found, value in zip(getattr(transform, direction)(z.to(device)), expected):
            _assert_there(found, value, device)
    score = torch.sin(z)
    expected = _one_by_one(lambda *rows: forward_with_score(here.flow.transform, *rows), z, score)
    for found, value in zip(forward_with_score(transform, z.to(device), score.to(device)), expected):
        _assert_there(found, value, device, 1e-7)


@FLOWS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_density_and_samples(name: str, dtype: torch.dtype, device: torch.device, seed: int) -> None:
    here, there = pair_named(name), pair_named(name)
    there.flow.to(device)
    assert device_of(there.flow).type == device.type, "where there are no weights the buffers tell"
    x, log_q = there.flow.sample(N, torch.Generator(device).manual_seed(seed), dtype)
    assert x.device.type == log_q.device.type == device.type
    assert x.dtype == log_q.dtype == dtype
    again = there.flow.log_prob(x)
    assert again.dtype == dtype
    if dtype == torch.float64:
        torch.testing.assert_close(again, log_q, atol=1e-7, rtol=0)
        (expected,) = _one_by_one(lambda row: (here.flow.log_prob(row),), x.cpu())
        _assert_there(again, expected, device, 1e-8)


@ACTIONS
def test_actions(case: ActionCase, device: torch.device, generator: torch.Generator) -> None:
    x = random_field(case.action.space, N, case.event, generator)
    for dtype in (torch.float64, torch.float32):
        field = x.to(device=device, dtype=dtype)
        action = case.action(field)
        assert (action.dtype, action.device.type) == (torch.float64, device.type)
        if case.action.space.tangent_shape is not None:
            force = case.action.force(field)
            assert (force.dtype, force.device.type) == (dtype, device.type)
    _assert_there(case.action(x.to(device)), torch.from_numpy(case.action.evaluate(x.numpy())), device)
    if case.action.space.tangent_shape is not None:
        _assert_there(case.action.force(x.to(device)), Action.force(case.action, x), device)


@FLOWS
@pytest.mark.parametrize("objective", [reverse_kl, path_gradient], ids=["reverse_kl", "path_gradient"])
def test_gradients(name: str, objective, device: torch.device) -> None:
    here, there = pair_named(name), pair_named(name)
    if not list(here.flow.parameters()):
        pytest.skip("this flow has no weights: no gradient")
    there.flow.to(device)
    with torch.no_grad():
        (z,) = objective.draw(here.flow, here.action, N, torch.Generator().manual_seed(3))
    means = [_loss_and_gradient(objective, here.flow, here.action, z[k : k + 1].clone()) for k in range(N)]
    found = _loss_and_gradient(objective, there.flow, there.action, z.to(device))
    expected = torch.stack(means).mean(0)
    _assert_there(found, expected, device, 1e-8 * float(expected.abs().max()))


def _loss_and_gradient(objective, flow, action, z: Tensor) -> Tensor:
    loss, log_w = objective.loss(flow, action, (z,))
    assert log_w.device == z.device
    gradients = torch.autograd.grad(loss, list(flow.transform.parameters()))  # a learnt prior has made z before
    return torch.cat([loss.detach()[None].double(), *(part.flatten().double() for part in gradients)])


@FLOWS
def test_reinforce_is_on_the_device(name: str, device: torch.device) -> None:
    pair = pair_named(name)
    pair.flow.to(device)
    (z,) = reinforce.draw(pair.flow, pair.action, N, torch.Generator(device).manual_seed(3))
    loss, log_w = reinforce.loss(pair.flow, pair.action, (z,))
    assert loss.device.type == log_w.device.type == device.type
    assert torch.isfinite(log_w).all()


def _streams(n: int) -> np.ndarray:
    return np.stack([np.arange(n), np.zeros(n)], 1).astype(np.uint64) + np.uint64(11)


def test_hmc_in_torch(device: torch.device) -> None:
    action = WithoutKernels(2.0)
    x = np.random.default_rng(0).uniform(-3, 3, (N, 2, 4, 4))
    ends = []
    for where in ("cpu", str(device)):
        sampler = HMC(action, 1.0, 6, device=where)
        state, info = sampler.step(sampler.init(x, _streams(N)), 3)
        ends.append((state.x, state.action, info.delta_h))
    for found, expected in zip(*ends):
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    compiled = HMC(WilsonU1(2.0), 1.0, 6)
    state, _ = compiled.step(compiled.init(x, _streams(N)), 3)
    np.testing.assert_allclose(ends[1][0], state.x, rtol=0, atol=1e-9)


@FLOWS
def test_flow_samplers(name: str, device: torch.device) -> None:
    pair = pair_named(name)
    pair.flow.to(device).requires_grad_(False)
    x = pair.field(N, "cpu").numpy()
    metropolis = FlowMetropolis(pair.action, pair.flow, batch_size=20)
    samples = FlowSamples(pair.action, pair.flow, batch_size=20)
    hmc = FlowHMC(pair.action, pair.flow, 0.5, 3)
    assert hmc.latent_hmc.device == str(device_of(pair.flow))
    for sampler in (metropolis, samples, hmc):
        state, _ = sampler.step(sampler.init(x, _streams(N)), 2)
        assert state.x.shape == x.shape
        assert np.isfinite(state.x).all()
    log_w = metropolis.init(x, _streams(N)).log_w
    field = torch.from_numpy(x)
    here = pair_named(name)
    expected = -here.action(field) - here.flow.log_prob(field).detach()
    np.testing.assert_allclose(log_w, expected.numpy(), rtol=0, atol=1e-7)


@FLOWS
def test_flow_hmc_feels_the_same_force(name: str, device: torch.device) -> None:
    here, there = pair_named(name), pair_named(name)
    z = here.field(N, "cpu")
    pullback = Pullback(there.action, there.flow.to(device).transform)
    expected = _one_by_one(lambda row: (Pullback(here.action, here.flow.transform).force(row),), z)[0]
    _assert_there(pullback.force(z.to(device)), expected, device, 1e-7)


def test_proposals_are_made_in_parts_of_bounded_size(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    from lattice_flows.samplers import proposals

    pair = pair_named("projection")
    pair.flow.to(device)
    sizes = []
    sample = type(pair.flow).sample
    monkeypatch.setattr(type(pair.flow), "sample", lambda flow, n, *rest: sizes.append(n) or sample(flow, n, *rest))
    for bound in ("_ON_CPU", "_ON_GPU"):
        monkeypatch.setattr(proposals, bound, 3 * 2 * 4 * 4)
    batch, _ = propose(pair.flow, pair.action, seeded_generator(pair.flow, _streams(N)), 20, (N, 2, 4, 4))
    assert sizes == [3] * 6 + [2]
    assert batch.x.shape == (4, N, 2, 4, 4)
    assert np.isfinite(batch.log_w).all()
