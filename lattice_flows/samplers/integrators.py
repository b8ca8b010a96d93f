"""Symplectic integrators of molecular dynamics, and trajectories of torch fields with them.

One step is drift, kick, drift, ..., kick, drift: positions first and palindromic, so that every integrator is
reversible and preserves the measure whatever the force.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.kernels.random import uniforms
from lattice_flows.samplers.sampler import Array, Streams
from lattice_flows.theories.action import Action


class Integrator(NamedTuple):
    """One step in units of step_size: drift drifts[0], kick kicks[0], ..., kick kicks[-1], drift drifts[-1].

    len(drifts) = len(kicks) + 1, both are palindromes and add up to one. The error of H falls like step_size^order
    if the force is smooth. A step costs len(kicks) forces: the last drift merges with the first of the next step.
    """

    drifts: Array
    kicks: Array
    order: int


# Omelyan, Mryglod and Folk, Comput. Phys. Commun. 151 (2003) 272 (cond-mat/0110585): the parameters that minimise the
# norm of the leading error. LAMBDA belongs to two forces a step; the others to five forces and fourth order, which they
# keep with all these digits only.
_LAMBDA = 0.1931833275037836
_RHO, _THETA = 0.2750081212332419, -0.1347950099106792
_VARTHETA, _KICK = -0.08442961950707149, 0.3549000571574260

INTEGRATORS: dict[str, Integrator] = {
    "leapfrog": Integrator(np.array([0.5, 0.5]), np.array([1.0]), 2),
    "omelyan": Integrator(np.array([_LAMBDA, 1 - 2 * _LAMBDA, _LAMBDA]), np.array([0.5, 0.5]), 2),
    "omelyan4": Integrator(
        np.array([_RHO, _THETA, 0.5 - _RHO - _THETA, 0.5 - _RHO - _THETA, _THETA, _RHO]),
        np.array([_VARTHETA, _KICK, 1 - 2 * (_VARTHETA + _KICK), _KICK, _VARTHETA]),
        4,
    ),
}


def integrate(
    action: Action, x: Tensor, momenta: Tensor, integrator: Integrator, step_size: float | Tensor, n_md_steps: int
) -> tuple[Tensor, Tensor]:
    """The end of a trajectory of H = p^2/2 + S(x): (x, momenta), x (B, *event) not wrapped.

    step_size: of all, or of each configuration, (B, 1, ..., 1) with the axes of x.
    """
    drift, drifts, kicks = action.space.drift, integrator.drifts.tolist(), integrator.kicks.tolist()
    x, momenta = drift(x, momenta, drifts[0] * step_size)
    for step in range(n_md_steps):
        for k, kick in enumerate(kicks):
            momenta = momenta + kick * step_size * action.force(x)
            merged = drifts[0] if k == len(kicks) - 1 and step < n_md_steps - 1 else 0.0
            x, momenta = drift(x, momenta, (drifts[k + 1] + merged) * step_size)
    return x, momenta


class Trajectory(NamedTuple):
    """A trajectory up to its test: the end x (B, *event), wrapped, the kinetic energies at its start and its end and
    the uniform deviates of the test, each (B,), and the streams.
    """

    end: Tensor
    kinetic: tuple[Array, Array]
    u: Array
    streams: Streams

    def tested(self, before: Array, after: Array) -> tuple[NDArray[np.bool_], Array]:
        """The Metropolis test of S before and after, (B,): what is accepted, and delta_h."""
        with np.errstate(invalid="ignore"):  # where S is infinite before and after
            delta_h = after - before + self.kinetic[1] - self.kinetic[0]
        return np.log(self.u) < -delta_h, delta_h  # False for a delta_h that is not a number


def drawn_trajectory(
    action: Action,
    x: Array,
    streams: Streams,
    integrator: Integrator,
    step_size: float,
    n_md_steps: int,
    jitter: float,
    device: str,
) -> Trajectory:
    """A trajectory of every chain from x (B, *event), with momenta and a length that are drawn from its stream."""
    space = action.space
    own: float | Tensor = step_size
    if jitter > 0:
        sizes, streams = drawn_lengths(step_size, jitter, streams)
        own = torch.from_numpy(per_chain(sizes, x.ndim)).to(device)
    momenta, streams = space.momenta(x, streams)
    u, streams = uniforms(streams, 1)  # (B, 1)
    with torch.no_grad():
        start, p = torch.from_numpy(x).to(device), torch.from_numpy(momenta).to(device)
        end, p = integrate(action, start, p, integrator, own, n_md_steps)
        kinetic = space.kinetic(momenta), space.kinetic(p).cpu().numpy()
        return Trajectory(space.wrap(end), kinetic, u[:, 0], streams)


def drawn_lengths(mean: float, jitter: float, streams: Streams) -> tuple[Array, Streams]:
    """A length for the next trajectory of each chain, uniform in 1 - jitter to 1 + jitter times the mean: (B,)."""
    u, streams = uniforms(streams, 1)  # (B, 1)
    return mean * jittered(jitter, u[:, 0]), streams


def jittered(jitter: float, u: Array) -> Array:
    """The factor of a mean length, from a deviate in (0, 1)."""
    return (1.0 - jitter) + 2.0 * jitter * u


def check_jitter(jitter: float) -> None:
    """Raise ValueError for a jitter with which a length could be zero, or be none."""
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter must be at least 0 and below 1, got {jitter}")


def per_chain(values: NDArray[Any], n_axes: int) -> NDArray[Any]:
    """values (B,) as (B, 1, ..., 1), to go with fields of so many axes."""
    return values.reshape(-1, *[1] * (n_axes - 1))
