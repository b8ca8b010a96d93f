"""Fourier-accelerated HMC of scalar fields: kinetic masses that undo the free field's spread of frequencies.

Batrouni et al., Phys. Rev. D 32 (1985) 2736; for HMC with the mass of the free propagator see arXiv:1812.05281.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import scipy.fft
import torch

from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import normals, uniforms
from lattice_flows.lattice import REAL
from lattice_flows.samplers.hmc import HMCInfo, HMCState
from lattice_flows.samplers.integrators import check_jitter, jittered, per_chain
from lattice_flows.samplers.sampler import Array, Sampler, Streams
from lattice_flows.theories.action import Action
from lattice_flows.theories.phi4.action import LocalScalar
from lattice_flows.theories.phi4.free_field import FreeField


@dataclass(frozen=True)
class FourierHMC(Sampler):
    """Leapfrog HMC with the kinetic term sum_k |p(k)|^2 / (2 V M(k)), M(k) = 2 hop (phat^2 + mass_squared).

    action: the target, of fields on the real line; hop is 1 for phi4 and kappa for phi4_hopping.
    mass_squared: in lattice units. At lam = 0 and m2 = mass_squared all modes have the period 2 pi; with interaction
    the inverse square of the correlation length is a good choice.
    trajectory_length: the mean molecular-dynamics time of a trajectory.
    n_md_steps: leapfrog steps per trajectory.
    jitter: as for HMC; here all modes have one frequency, and a fixed length could meet their half period at once.

    Raises ValueError for values out of range and for an action that does not live on the real line.
    """

    action: Action
    mass_squared: float
    trajectory_length: float = 1.5707963
    n_md_steps: int = 10
    jitter: float = 0.5
    reversible: ClassVar[bool] = True  # as HMC is: all momenta are drawn anew
    memoryless: ClassVar[bool] = True
    added: ClassVar[Mapping[str, Any]] = {"jitter": 0.5}

    def __post_init__(self) -> None:
        if self.action.space != REAL:
            raise ValueError(f"Fourier acceleration is for real fields, not for {type(self.action).__name__}")
        for name in ("mass_squared", "trajectory_length"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        check_jitter(self.jitter)
        if not 1 <= self.n_md_steps <= 100_000:
            raise ValueError(f"n_md_steps must be between 1 and 100000, got {self.n_md_steps}")

    def init(self, x: Array, streams: Streams) -> HMCState:
        """The state of chains at x (B, *lattice_shape), float64."""
        x = np.array(x, dtype=np.float64, order="C")
        return HMCState(x, self.action.evaluate(x), streams.copy())

    def step(self, state: HMCState, n_updates: int = 1) -> tuple[HMCState, HMCInfo]:
        """n_updates trajectories of every chain."""
        accepted, delta_h = np.zeros(len(state.x)), np.zeros(len(state.x))
        for _ in range(n_updates):
            state, accept, delta_h = self._trajectory(state)
            accepted += accept
        return state, HMCInfo(accepted / n_updates, delta_h)

    def _trajectory(self, state: HMCState) -> tuple[HMCState, Array, Array]:
        shape = state.x.shape
        inverse_mass = FreeField(self.mass_squared, shape[1:], self._hop(len(shape) - 1)).propagator  # 1 / M(k)
        noise, streams = normals(state.streams, state.x[0].size)
        u, streams = uniforms(streams, 2)  # (B, 2): the trajectory's length, and its test
        step_size = per_chain(jittered(self.jitter, u[:, 0]) * self.trajectory_length / self.n_md_steps, len(shape))

        momenta = _filtered(noise.reshape(shape), 1.0 / np.sqrt(inverse_mass))
        velocity = _filtered(momenta, inverse_mass)
        start = state.action + _kinetic(momenta, velocity)
        with np.errstate(over="ignore", invalid="ignore"):  # far out the integrator can run away, to be rejected
            x, momenta, velocity = self._integrate(state.x, momenta, velocity, inverse_mass, step_size)
            action = self.action.evaluate(x)
            delta_h = action + _kinetic(momenta, velocity) - start
        accept = np.log(u[:, 1]) < -delta_h  # False for a delta_h that is not a number
        new_x = np.where(per_chain(accept, len(shape)), x, state.x)
        return HMCState(new_x, np.where(accept, action, state.action), streams), accept.astype(np.float64), delta_h

    def _hop(self, dimension: int) -> float:
        """The action's coupling of neighbours, which scales all frequencies; 1 where it has none."""
        return self.action.couplings(dimension).hop if isinstance(self.action, LocalScalar) else 1.0

    def _integrate(
        self, x: Array, momenta: Array, velocity: Array, inverse_mass: Array, step_size: Array
    ) -> tuple[Array, Array, Array]:
        """Position-first leapfrog: x, momenta and velocity at the end. step_size (B, 1, ...)."""
        force = self._force(x.shape[1:])
        x = x + 0.5 * step_size * velocity
        for md_step in range(self.n_md_steps):
            momenta = momenta + step_size * force(x)
            velocity = _filtered(momenta, inverse_mass)
            x = x + (step_size if md_step < self.n_md_steps - 1 else 0.5 * step_size) * velocity
        return x, momenta, velocity

    def _force(self, event: tuple[int, ...]) -> Callable[[Array], Array]:
        """-dS/dx of an array of configurations, compiled where possible."""
        couplings = self.action.kernel_couplings(event)
        if couplings is None:
            return lambda x: self.action.force(torch.from_numpy(x)).numpy()
        return partial(hmc.force, couplings)


def _filtered(x: Array, weights: Array) -> Array:
    """Every Fourier mode of x (B, *lattice_shape) times its weight, `weights` (*lattice_shape), even in k."""
    axes = tuple(range(1, x.ndim))
    modes = scipy.fft.rfftn(x, axes=axes)  # (B, ..., L // 2 + 1)
    return scipy.fft.irfftn(modes * weights[..., : modes.shape[-1]], s=x.shape[1:], axes=axes)


def _kinetic(momenta: Array, velocity: Array) -> Array:
    """1/2 sum_x p(x) v(x) = sum_k |p(k)|^2 / (2 V M(k)), (B,)."""
    return 0.5 * (momenta * velocity).reshape(len(momenta), -1).sum(axis=1)
