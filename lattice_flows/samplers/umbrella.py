"""Umbrella sampling in the smooth charge: chains held in overlapping windows, joined afterwards by MBAR."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lattice_flows.samplers.charge_bias import begun, biased_trajectories, charge_reach, require_u1, tuned_n_md_steps
from lattice_flows.samplers.hmc import HMC
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, Windows, silent
from lattice_flows.samplers.tuning import warming
from lattice_flows.theories.action import Action
from lattice_flows.theories.u1.kernels import biased_hmc as biased_hmc_u1

_N_GRID = 1001
_HOT = 0.5  # of the thermalisation, as for HMC
_SOFT = 0.01  # of the spring


class UmbrellaState(NamedTuple):
    """x (B, 2, L0, L1), its action S without the bias (B,), its smooth charge (B,), the random streams (B, 2), and the
    window of each chain (B,)."""

    x: Array
    action: Array
    charge: Array
    streams: Streams
    window: NDArray[np.int64]


class UmbrellaInfo(NamedTuple):
    """The accepted fraction of the updates, delta_h of the last one with the bias in it, and of the current state the
    log weight, the smooth charge and the window, each (B,)."""

    accepted: Array
    delta_h: Array
    log_w: Array
    smooth_charge: Array
    window: Array


def window_potentials(settings: Mapping[str, Any], smooth_charge: Array) -> Array:
    """V_k(Q_s) of every window k: smooth_charge (n,) -> (n_windows, n).

    settings: n_windows, q_max and spring, as they are stored with an ensemble.
    """
    biases, reach = _biases(settings["n_windows"], settings["q_max"], settings["spring"])
    grid = np.linspace(-reach, reach, _N_GRID)
    return np.stack([np.interp(smooth_charge, grid, bias) for bias in biases])


def _biases(n_windows: int, q_max: float, spring: float) -> tuple[Array, float]:
    """V_k on the grid, (n_windows, n_grid), and how far the grid reaches."""
    reach = 2.0 * q_max + 1.0  # a chain from a hot start must feel its window, too
    centres = np.linspace(-q_max, q_max, n_windows)
    grid = np.linspace(-reach, reach, _N_GRID)
    return 0.5 * spring * np.square(grid - centres[:, None]), reach


@dataclass(frozen=True)
class Umbrella(Sampler):
    """HMC of 2D U(1) in windows of the smooth charge: window k has the target exp(-S - V_k(Q_s)) with
    V_k = spring/2 (Q_s - c_k)^2, and centres c_k equally spaced from -q_max to q_max.

    V_k is taken on a grid from -r to r, r = 2 q_max + 1, linear between its points and constant outside: the chains and
    `window_potentials` use this same V_k, so nothing is approximate. Chains are dealt to the windows in turn: n_chains
    should be a multiple of n_windows. Averages of all windows together come from MBAR (`statistics.JoinedWindows`). The
    weights log_w = V_k(Q_s) do for the chains of one window, and are exact for all, but waste most of them.

    action: that of 2D U(1).
    n_windows: two or more. Two for each sector, one in its middle and one between, are enough.
    spring: of the windows. The half-way windows sample the barrier, and both sides of it, where spring/8 is about the
    height of the barrier: 6 at beta = 6, 9 at beta = 7, 16 at beta = 10 on 16 x 16.
    q_max: centre of the last window; None asks `tune` for the middle of the sector 3.5 standard deviations of the
    charge away.
    trajectory_length, n_md_steps, target_acceptance, integrator: as for HMC; n_md_steps is tuned without the bias.

    Raises ValueError for values out of range and an action other than that of 2D U(1).
    """

    action: Action
    n_windows: int
    spring: float = 100.0
    q_max: float | None = None
    trajectory_length: float = 1.0
    n_md_steps: int | None = None
    target_acceptance: float = 0.8
    integrator: str = "leapfrog"
    weighted: ClassVar[bool] = True
    windows: ClassVar[Windows] = Windows("n_windows", "smooth_charge", "Q_s", window_potentials)

    def __post_init__(self) -> None:
        require_u1(self.action)
        self._hmc.__post_init__()
        if not 2 <= self.n_windows <= 10_000:
            raise ValueError(f"n_windows must be between 2 and 10000, got {self.n_windows}")
        if not 0 < self.spring < math.inf:
            raise ValueError(f"spring must be > 0, got {self.spring}")
        if self.q_max is not None and not 0 < self.q_max < math.inf:
            raise ValueError(f"q_max must be > 0, got {self.q_max}")

    @property
    def _hmc(self) -> HMC:
        return HMC(self.action, self.trajectory_length, self.n_md_steps, self.target_acceptance, self.integrator)

    def init(self, x: Array, streams: Streams) -> UmbrellaState:
        """The state of chains at x (B, 2, L0, L1), dealt to the windows in turn."""
        return UmbrellaState(*begun(self.action, x, streams), np.arange(len(x)) % self.n_windows)

    def step(self, state: UmbrellaState, n_updates: int = 1) -> tuple[UmbrellaState, UmbrellaInfo]:
        """n_updates trajectories of every chain in its window.

        Raises ValueError when n_md_steps or q_max was neither given nor tuned.
        """
        bias, reach = self._bias(state)
        chains, accepted, delta_h = biased_trajectories(self._hmc, state[:4], bias, reach, n_updates)
        new = UmbrellaState(*chains, state.window)
        log_w = biased_hmc_u1.bias_at(bias, reach, new.charge)
        return new, UmbrellaInfo(accepted, delta_h, log_w, new.charge.copy(), new.window.astype(np.float64))

    def thermalise(self, state: UmbrellaState, done: float) -> UmbrellaState:
        """One trajectory. In the first half of them the steps are small and the springs grow to their strength.

        A chain may be hot, and far from its window: a full spring would pull so hard that nothing is accepted.
        """
        if done >= _HOT:
            return self.step(state)[0]
        spring = self.spring * max(_SOFT, (done / _HOT) ** 2)
        return replace(self, n_md_steps=warming(self.n_md_steps), spring=spring).step(state)[0]

    def moved(self, state: UmbrellaState, x: Array) -> UmbrellaState:
        """The same chains at x (B, 2, L0, L1), each in its window."""
        return UmbrellaState(*begun(self.action, x, state.streams), state.window)

    def target(self, state: UmbrellaState, x: Array) -> Array:
        """S(x) + V_k(Q_s(x)) of each chain in its window k, (B,)."""
        bias, reach = self._bias(state)
        return self.action.evaluate(x) + biased_hmc_u1.bias_at(bias, reach, biased_hmc_u1.smooth_charge(x))

    def _bias(self, state: UmbrellaState) -> tuple[Array, float]:
        """The bias of each chain on the grid (B, n_grid), and how far the grid reaches."""
        if self.q_max is None:
            raise ValueError("q_max is not set: give it, or call tune() first")
        biases, reach = _biases(self.n_windows, self.q_max, self.spring)
        return biases[state.window], reach

    @property
    def tuned(self) -> bool:
        """Whether n_md_steps and q_max are known."""
        return self.n_md_steps is not None and self.q_max is not None

    def tune(self, state: UmbrellaState, n_updates: int, report: Report = silent) -> "Umbrella":
        """This sampler with n_md_steps as HMC finds it, and q_max."""
        n_md_steps = tuned_n_md_steps(self._hmc, state[:4], n_updates, report)
        return replace(self, n_md_steps=n_md_steps, q_max=self.q_max or charge_reach(self.action, state.x.shape[2:]))

    def findings(self) -> dict[str, Any]:
        """n_md_steps and q_max."""
        return {"n_md_steps": self.n_md_steps, "q_max": self.q_max}

    def with_findings(self, settings: Mapping[str, Any]) -> "Umbrella":
        """This sampler with the stored n_md_steps and q_max."""
        return replace(self, n_md_steps=settings["n_md_steps"], q_max=settings["q_max"])
