"""Umbrella sampling in a collective variable: chains held in overlapping windows, joined afterwards by MBAR."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lattice_flows.later_keys import Changed
from lattice_flows.samplers.biased_chains import (
    Bias,
    begun,
    biased_trajectories,
    check_range,
    check_variable,
    coordinate,
    known_reach,
    tuned_trajectories,
)
from lattice_flows.samplers.hmc import HMC
from lattice_flows.samplers.info import info_of
from lattice_flows.samplers.lengths import settle_length
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, Windows, silent
from lattice_flows.samplers.tuning import warming
from lattice_flows.samplers.window_exchange import Swaps, first_swaps, swapped, trips_of_chains
from lattice_flows.theories.action import Action, Shape
from lattice_flows.theories.collective import CollectiveVariable

_N_GRID = 1001
_HOT = 0.5  # of the thermalisation, as for HMC
_SOFT = 0.01  # of the spring
_STIFFEST = 1e12  # far beyond it V overflows


class UmbrellaState(NamedTuple):
    """x (B, *event), its action S without the bias (B,), its collective variable (B,), the random streams (B, 2), the
    window of each chain (B,), and the swaps, () where there are none."""

    x: Array
    action: Array
    charge: Array
    streams: Streams
    window: NDArray[np.int64]
    swaps: Swaps | tuple[()] = ()


def window_potentials(settings: Mapping[str, Any], s: Array) -> Array:
    """V_k(s) of every window k: s (n,) -> (n_windows, n).

    settings: n_windows, q_max, spring and centre, as they are stored with an ensemble.
    """
    biases, reach = _biases(settings["n_windows"], settings["q_max"], settings["spring"])
    grid = np.linspace(-reach, reach, _N_GRID)
    return np.stack([np.interp(s - settings["centre"], grid, bias) for bias in biases])


def _biases(n_windows: int, q_max: float, spring: float) -> tuple[Array, float]:
    """V_k on the grid about the centre, (n_windows, n_grid), and how far the grid reaches."""
    reach = 2.0 * q_max + 1.0  # a chain from a hot start must feel its window, too
    centres = np.linspace(-q_max, q_max, n_windows)
    grid = np.linspace(-reach, reach, _N_GRID)
    return 0.5 * spring * np.square(grid - centres[:, None]), reach


@dataclass(frozen=True)
class Umbrella(Sampler):
    """HMC in windows of a collective variable s: window k has the target exp(-S - V_k(s)) with
    V_k = spring/2 (s - c_k)^2, and centres c_k equally spaced from centre - q_max to centre + q_max.

    V_k is taken on a grid from centre - r to centre + r, r = 2 q_max + 1, linear between its points and constant
    outside: the chains and `window_potentials` use this same V_k, so nothing is approximate. Chains are dealt to the
    windows in turn: n_chains should be a multiple of n_windows. Averages of all windows together come from MBAR
    (`statistics.JoinedWindows`). The weights log_w = V_k(s) do for the chains of one window, and are exact for all, but
    waste most of them.

    action: of any theory that names a collective variable: the smooth charge Q_s of 2D U(1), the magnetisation of
    scalar fields.
    n_windows: two or more. In the charge two for each sector, one in its middle and one between, are enough.
    spring: of the windows. The charge's half-way windows sample the barrier, and both sides of it, where spring/8 is
    about the height of the barrier: 6 at beta = 6, 9 at beta = 7, 16 at beta = 10 on 16 x 16.
    q_max: how far the last window is from the centre. None asks `tune`, where the theory knows: in the charge for the
    middle of the sector 3.5 standard deviations away.
    trajectory_length, n_md_steps, target_acceptance, integrator, jitter: as for HMC, and tuned without the bias.
    variable: name of the collective variable; None: the theory's first.
    centre: of the windows.
    exchange_every: updates between attempts to swap the configurations of neighbouring windows, even pairs and odd ones
    in turn (Sugita, Kitao and Okamoto, J. Chem. Phys. 113 (2000) 6042); 0: none. Swaps carry a configuration past what
    holds it up in one window; the round trips that an analysis counts tell whether they do.

    Raises ValueError for values out of range, an action without such a variable, and a q_max that nobody knows.
    """

    action: Action
    n_windows: int
    spring: float = 100.0
    q_max: float | None = None
    trajectory_length: float | None = None
    n_md_steps: int | None = None
    target_acceptance: float = 0.8
    integrator: str = "leapfrog"
    variable: str | None = None
    centre: float = 0.0
    exchange_every: int = 0
    jitter: float = 0.5
    weighted: ClassVar[bool] = True
    windows: ClassVar[Windows] = Windows("n_windows", coordinate, window_potentials)
    added: ClassVar[Mapping[str, Any]] = {"variable": None, "centre": 0.0, "exchange_every": 0, "jitter": 0.0}
    changed: ClassVar[Mapping[str, Changed]] = HMC.changed
    tunable: ClassVar[tuple[str, ...]] = ("trajectory_length", "n_md_steps", "q_max")

    def __post_init__(self) -> None:
        settle_length(self)
        check_range(self.action, self._variable, self.q_max, self.centre)
        self._hmc.__post_init__()
        if not 2 <= self.n_windows <= 10_000:
            raise ValueError(f"n_windows must be between 2 and 10000, got {self.n_windows}")
        if not 0 < self.spring <= _STIFFEST:
            raise ValueError(f"spring must be > 0 and at most {_STIFFEST:g}, got {self.spring}")
        if not 0 <= self.exchange_every <= 1_000_000:
            raise ValueError(f"exchange_every must be between 0 and 1000000, got {self.exchange_every}")

    @property
    def reversible(self) -> bool:  # type: ignore[override]
        """HMC in a window is; with swaps a chain depends on others, and even and odd pairs swap in turn."""
        return self.exchange_every == 0

    @property
    def chains_per_set(self) -> int:
        """One chain for each window."""
        return self.n_windows

    @cached_property
    def _hmc(self) -> HMC:
        settings = self.trajectory_length, self.n_md_steps, self.target_acceptance, self.integrator
        return HMC(self.action, *settings, jitter=self.jitter)

    @cached_property
    def _variable(self) -> CollectiveVariable:
        return self.action.collective_variable(self.variable)

    def least_bytes(self, n_chains: int, event: Shape, n_updates: int) -> int:
        """The chains, and the potentials of all windows and of each chain on the grid."""
        return super().least_bytes(n_chains, event, n_updates) + 8 * _N_GRID * (n_chains + self.n_windows)

    def init(self, x: Array, streams: Streams) -> UmbrellaState:
        """The state of chains at x (B, *event), dealt to the windows in turn."""
        check_variable(self.action, self._variable, x)
        swaps = first_swaps(len(x), self.n_windows) if self.exchange_every else ()
        window = np.arange(len(x)) % self.n_windows
        return UmbrellaState(*begun(self.action, self._variable, x, streams), window, swaps)

    def step(self, state: UmbrellaState, n_updates: int = 1) -> tuple[UmbrellaState, NamedTuple]:
        """n_updates trajectories of every chain in its window, and the swaps that are due.

        Raises ValueError when n_md_steps or q_max was neither given nor tuned.
        """
        bias = self._bias(state)
        if self.exchange_every:
            return self._step_with_swaps(state, bias, n_updates)
        state, accepted, delta_h = self._trajectories(state, bias, n_updates)
        return state, info_of(self._series(state, bias, accepted, delta_h))

    def _step_with_swaps(self, state: UmbrellaState, bias: Bias, n_updates: int) -> tuple[UmbrellaState, NamedTuple]:
        swaps, every, left = state.swaps, self.exchange_every, n_updates
        assert isinstance(swaps, Swaps), "the state is that of a sampler without swaps"
        trips, n_accepted, acceptances = swaps.trips, np.zeros(len(state.x)), []
        while left > 0:
            n = min(left, every - int(swaps.n_updates) % every)
            state, accepted, delta_h = self._trajectories(state, bias, n)
            n_accepted, left = n_accepted + np.rint(n * accepted), left - n
            swaps, chains = swaps._replace(n_updates=np.asarray(swaps.n_updates + n)), state[:4]
            if int(swaps.n_updates) % every == 0:
                n_rounds = int(swaps.n_updates) // every - 1
                chains, swaps = swapped(chains, bias, swaps, self.n_windows, n_rounds)
                acceptances.append(swaps.acceptance)
            state = UmbrellaState(*chains, state.window, swaps)
        series = self._series(state, bias, n_accepted / n_updates, delta_h)
        series["swap_acceptance"] = np.mean(acceptances or [swaps.acceptance], axis=0)
        series["round_trips"] = trips_of_chains(trips, swaps.trips, len(state.x))
        return state, info_of(series)

    def _trajectories(self, state: UmbrellaState, bias: Bias, n: int) -> tuple[UmbrellaState, Array, Array]:
        """The state after n trajectories of every chain, the accepted fraction and the last delta_h."""
        chains, accepted, delta_h = biased_trajectories(self._hmc, self._variable, state[:4], bias, n)
        return UmbrellaState(*chains, state.window, state.swaps), accepted, delta_h

    def _series(self, state: UmbrellaState, bias: Bias, accepted: Array, delta_h: Array) -> dict[str, NDArray[Any]]:
        s, window = state.charge.copy(), state.window.astype(np.float64)
        log_w = {"accepted": accepted, "delta_h": delta_h, "log_w": bias.at(s)}
        return {**log_w, self._variable.series: s, "window": window}

    def thermalise(self, state: UmbrellaState, done: float) -> UmbrellaState:
        """One trajectory. In the first half of them the steps are small and the springs grow to their strength.

        A chain may be hot, and far from its window: a full spring would pull so hard that nothing is accepted.
        """
        if done >= _HOT:
            return self.step(state)[0]
        spring = self.spring * max(_SOFT, (done / _HOT) ** 2)
        return replace(self, n_md_steps=warming(self.n_md_steps), spring=spring).step(state)[0]

    def moved(self, state: UmbrellaState, x: Array) -> UmbrellaState:
        """The same chains at x (B, *event), each in its window."""
        return UmbrellaState(*begun(self.action, self._variable, x, state.streams), state.window, state.swaps)

    def target(self, state: UmbrellaState, x: Array) -> Array:
        """S(x) + V_k(s(x)) of each chain in its window k, (B,)."""
        return self.action.evaluate(x) + self._bias(state).at(self._variable.value(x))

    def _bias(self, state: UmbrellaState) -> Bias:
        """V of the window of each chain."""
        if self.q_max is None:
            raise ValueError("q_max is not set: give it, or call tune() first")
        biases, reach = _biases(self.n_windows, self.q_max, self.spring)
        return Bias(biases[state.window], reach, float(self.centre))

    def tune(self, state: UmbrellaState, n_updates: int, report: Report = silent) -> "Umbrella":
        """This sampler with the trajectories that HMC finds, and q_max."""
        trajectories = tuned_trajectories(self._hmc, state[:4], n_updates, report)
        q_max = self.q_max or known_reach(self.action, self._variable, state.x.shape[1:])
        return replace(self, q_max=q_max, **trajectories)
