"""Flow-HMC in the variables of the field, docs/field-space.md: the image of the latent leapfrog is the same chain."""

import numpy as np
import pytest
import torch
from cases import trained_flow
from torch.func import jacrev

from lattice_flows.kernels.random import make_streams, uniforms
from lattice_flows.lattice import CIRCLE
from lattice_flows.samplers import FlowHMC
from lattice_flows.theories import WilsonU1, sample_u1

BETA, SHAPE, LENGTH, N_MD_STEPS = 1.0, (4, 4), 0.6, 3


@pytest.fixture(scope="module")
def sampler():
    return FlowHMC(
        WilsonU1(BETA), trained_flow(SHAPE, BETA, "projection"), LENGTH, N_MD_STEPS, jitter=0.0, force="full"
    )


def force_in_x(sampler, x):
    """-J^T dS/dx + d log|det J| / dz at z = f^-1(x), (B, *event): each part by itself."""
    transform = sampler.flow.transform
    with torch.no_grad():
        z = transform.inverse(x)[0]
    z = z.detach().requires_grad_(True)
    field, log_det = transform.forward(z)
    slope = -WilsonU1(BETA).force(field.detach())  # dS/dx
    return torch.autograd.grad([field, log_det.sum()], z, grad_outputs=[-slope, torch.ones(())])[0]


def drift_in_x(sampler, x, rho, h):
    """f(f^-1(x) + h rho)."""
    with torch.no_grad():
        z = sampler.flow.transform.inverse(x)[0] + h * rho
        return CIRCLE.wrap(sampler.flow.transform.forward(z)[0])


def log_det_at(sampler, x):
    with torch.no_grad():
        return -sampler.flow.transform.inverse(x)[1].double()


def step_in_x(sampler, x, streams):
    """One update, in x and rho alone, from the numbers that the latent chain draws."""
    momenta, streams = CIRCLE.momenta(x, streams)
    u, streams = uniforms(streams, 1)
    rho, end, h = torch.from_numpy(momenta), torch.from_numpy(x), LENGTH / N_MD_STEPS
    end = drift_in_x(sampler, end, rho, 0.5 * h)
    for k in range(N_MD_STEPS):
        rho = rho + h * force_in_x(sampler, end)
        end = drift_in_x(sampler, end, rho, h if k < N_MD_STEPS - 1 else 0.5 * h)

    def hamiltonian(x, rho):
        return 0.5 * rho.square().flatten(1).sum(1) + WilsonU1(BETA)(x) - log_det_at(sampler, x)

    delta = hamiltonian(end, rho) - hamiltonian(torch.from_numpy(x), torch.from_numpy(momenta))
    accept = np.log(u[:, 0]) < -delta.numpy()
    return np.where(accept[:, None, None, None], end.numpy(), x), streams, accept


def test_it_is_the_same_chain(sampler, seed):
    x, streams = sample_u1(BETA, *SHAPE, make_streams(seed, "test", range(12)))
    state, rates = sampler.init(x, streams), []
    for _ in range(6):
        state, info = sampler.step(state)
        x, streams, accept = step_in_x(sampler, x, streams)
        np.testing.assert_array_equal(info.accepted, accept)
        np.testing.assert_allclose(np.exp(1j * x), np.exp(1j * state.x), rtol=0, atol=1e-9)
        rates.append(accept.mean())
    assert 0.0 < np.mean(rates) < 1.0  # both ends of the test were met


def test_x_moves_with_the_velocity_j_rho(sampler, seed):
    """And a step with J as it is at its beginning is off by the second order, so it does not come back."""
    x, streams = sample_u1(BETA, *SHAPE, make_streams(seed, "test", range(2)))
    rho = torch.from_numpy(CIRCLE.momenta(x, streams)[0])
    x = torch.from_numpy(x)
    with torch.no_grad():
        z = sampler.flow.transform.inverse(x)[0]

    def velocity(x, z, rho):
        j = jacrev(lambda one: sampler.flow.transform.forward(one[None])[0][0].flatten())
        return torch.stack([j(a).flatten(1) @ b.flatten() for a, b in zip(z, rho)]).reshape(x.shape)

    off = []
    for h in (1e-2, 5e-3):
        straight = x + h * velocity(x, z, rho)
        bent = drift_in_x(sampler, x, rho, h)
        off.append(float(CIRCLE.wrap(bent - straight).abs().max()))
    assert off[1] > 1e-9
    assert 3.0 < off[0] / off[1] < 5.0  # of second order in h
