"""Metadynamics in a collective variable: a bias that the chains build themselves and then keep."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from lattice_flows.kernels.grid_bias import deposit
from lattice_flows.later_keys import Changed
from lattice_flows.samplers.biased_chains import (
    Bias,
    begun,
    biased_trajectories,
    check_range,
    check_variable,
    known_reach,
    tuned_trajectories,
)
from lattice_flows.samplers.hmc import HMC
from lattice_flows.samplers.info import info_of
from lattice_flows.samplers.lengths import settle_length
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.samplers.tuning import warming
from lattice_flows.theories.action import Action, Shape
from lattice_flows.theories.collective import CollectiveVariable

_FINEST = 100_000  # points of the grid
_LARGEST = 1e12  # of a Gaussian's height and width; far beyond it V overflows
_HOT = 0.1  # of the thermalisation; a chain from a hot start is no guide to the free energy


class MetadynamicsState(NamedTuple):
    """x (B, *event), its action S without the bias (B,), its collective variable (B,), the random streams (B, 2), and
    the bias of each chain on the grid (B, n_grid)."""

    x: Array
    action: Array
    charge: Array
    streams: Streams
    bias: Array


@dataclass(frozen=True)
class Metadynamics(Sampler):
    """HMC of exp(-S - V(s)) with a V of a collective variable s that fills the valleys of the free energy
    (arXiv:cond-mat/0208352; of the charge of a gauge theory: arXiv:1508.07270).

    Thermalisation builds V by well-tempered deposits (arXiv:0803.3861), one a trajectory, with a V of its own for each
    chain. Production leaves V as it is. Averages have the weights exp(+V), see `log_weights`: exact for any V, but a V
    that is not finished leaves s as frozen as it was, and no error tells. In the charge n_thermalisation should be 2000
    or more on 16 x 16, and grow at least like q_max; the 100 of a card that does not say are far too few.

    action: of any theory that names a collective variable: the smooth charge Q_s of 2D U(1), the magnetisation of
    scalar fields.
    trajectory_length, n_md_steps, target_acceptance, integrator, jitter: as for HMC, and tuned without the bias.
    height: of the first Gaussian, in units of the action.
    width: of the Gaussians, in units of s. For Q_s 0.1 does for beta = 6 ... 10 on 16 x 16; half of it makes V rough,
    which costs acceptance.
    bias_factor: V tends to -(1 - 1/bias_factor) times the free energy; inf flattens all, with noise.
    q_max: the grid reaches from centre - q_max to centre + q_max, and V is constant outside. None asks `tune`, where
    the theory knows: in the charge for the middle of the sector 3.5 standard deviations away.
    n_grid: points of the grid, no further apart than the width.
    variable: name of the collective variable; None: the theory's first. Where it is odd under a symmetry, what is
    deposited at s is deposited at -s, too.
    centre: of the grid.

    Raises ValueError for values out of range, an action without such a variable, and a q_max that nobody knows.
    """

    action: Action
    trajectory_length: float | None = None
    n_md_steps: int | None = None
    target_acceptance: float = 0.8
    integrator: str = "leapfrog"
    height: float = 0.2
    width: float = 0.1
    bias_factor: float = 10.0
    q_max: float | None = None
    n_grid: int = 501
    variable: str | None = None
    centre: float = 0.0
    jitter: float = 0.5
    weighted: ClassVar[bool] = True
    reversible: ClassVar[bool] = True  # once the bias stays as it is: HMC with this bias
    added: ClassVar[Mapping[str, Any]] = {"variable": None, "centre": 0.0, "jitter": 0.0}
    changed: ClassVar[Mapping[str, Changed]] = HMC.changed
    fewest_deposits: ClassVar[int] = 1000
    tunable: ClassVar[tuple[str, ...]] = ("trajectory_length", "n_md_steps", "q_max")

    def __post_init__(self) -> None:
        settle_length(self)
        check_range(self.action, self._variable, self.q_max, self.centre)
        self._hmc.__post_init__()
        for name in ("height", "width"):
            if not 0 < getattr(self, name) <= _LARGEST:
                raise ValueError(f"{name} must be > 0 and at most {_LARGEST:g}, got {getattr(self, name)}")
        if not self.bias_factor > 1:
            raise ValueError(f"bias_factor must be > 1, got {self.bias_factor}")
        if not 2 <= self.n_grid <= _FINEST:
            raise ValueError(f"n_grid must be between 2 and {_FINEST}, got {self.n_grid}")
        if self.q_max is not None:
            _require_fine_grid(self.q_max, self.n_grid, self.width)

    @cached_property
    def _hmc(self) -> HMC:
        settings = self.trajectory_length, self.n_md_steps, self.target_acceptance, self.integrator
        return HMC(self.action, *settings, jitter=self.jitter)

    @cached_property
    def _variable(self) -> CollectiveVariable:
        return self.action.collective_variable(self.variable)

    def least_bytes(self, n_chains: int, event: Shape, n_updates: int) -> int:
        """The chains and their grids."""
        return super().least_bytes(n_chains, event, n_updates) + 8 * n_chains * self.n_grid

    def init(self, x: Array, streams: Streams) -> MetadynamicsState:
        """The state of chains at x (B, *event), without a bias."""
        check_variable(self.action, self._variable, x)
        return MetadynamicsState(*begun(self.action, self._variable, x, streams), np.zeros((len(x), self.n_grid)))

    def step(self, state: MetadynamicsState, n_updates: int = 1) -> tuple[MetadynamicsState, NamedTuple]:
        """n_updates trajectories of every chain under its bias, which stays as it is.

        Raises ValueError when n_md_steps or q_max was neither given nor tuned.
        """
        bias = self._bias(state)
        chains, accepted, delta_h = biased_trajectories(self._hmc, self._variable, state[:4], bias, n_updates)
        new = MetadynamicsState(*chains, state.bias)
        series = {"accepted": accepted, "delta_h": delta_h, "log_w": self.log_weights(new)}
        return new, info_of(series | {self._variable.series: new.charge.copy()})

    def thermalise(self, state: MetadynamicsState, done: float) -> MetadynamicsState:
        """One trajectory, and a deposit where it ends.

        The first tenth of them takes small steps and deposits nothing: a chain may come from a hot start.
        """
        if done < _HOT:
            return replace(self, n_md_steps=warming(self.n_md_steps)).step(state)[0]
        state, _ = self.step(state)
        values, q_max, centre = self._bias(state)
        place = np.clip(state.charge - centre, -q_max, q_max)  # V is one constant outside, which must rise, too
        places = [place, -place - 2.0 * centre] if self._variable.odd else [place]
        return state._replace(bias=deposit(values, q_max, places, self.height, self.width, self.bias_factor))

    def log_weights(self, state: MetadynamicsState) -> Array:
        """log w = V(s) - mean of V over the grid, of each chain, (B,).

        <w O> / <w> pools the chains with whatever constant for each: its numerator and its denominator both expect the
        same factor, Z / Z_V exp(-constant), from a chain. Only the error suffers where these factors differ. After
        equally many deposits the mean of V made them differ least: by a factor of exp(0.2 ... 0.5), half of what its
        maximum or the free energy that V stands for left (16 x 16, beta = 6 ... 10).
        """
        return self._bias(state).at(state.charge) - state.bias.mean(axis=1)

    def moved(self, state: MetadynamicsState, x: Array) -> MetadynamicsState:
        """The same chains at x (B, *event), each with the bias that it has."""
        return MetadynamicsState(*begun(self.action, self._variable, x, state.streams), state.bias)

    def target(self, state: MetadynamicsState, x: Array) -> Array:
        """S(x) + V(s(x)) of each chain, (B,)."""
        return self.action.evaluate(x) + self._bias(state).at(self._variable.value(x))

    def tune(self, state: MetadynamicsState, n_updates: int, report: Report = silent) -> "Metadynamics":
        """This sampler with the trajectories that HMC finds, and q_max.

        Raises ValueError where the grid that this takes is coarser than the width.
        """
        trajectories = tuned_trajectories(self._hmc, state[:4], n_updates, report)
        q_max = self.q_max or known_reach(self.action, self._variable, state.x.shape[1:])
        return replace(self, q_max=q_max, **trajectories)

    def _bias(self, state: MetadynamicsState) -> Bias:
        if self.q_max is None:
            raise ValueError("q_max is not set: give it, or call tune() first")
        return Bias(state.bias, float(self.q_max), float(self.centre))


def _require_fine_grid(q_max: float, n_grid: int, width: float) -> None:
    if 2.0 * q_max / (_FINEST - 1) > width:
        raise ValueError(
            f"q_max / width = {q_max:g} / {width:g} is too large for the finest grid, of {_FINEST} points no further "
            "apart than the width"
        )
    if 2.0 * q_max / (n_grid - 1) > width:
        fewest = int(np.ceil(2.0 * q_max / width)) + 1
        raise ValueError(f"n_grid must be at least {fewest} for q_max = {q_max:g} and width = {width:g}, got {n_grid}")
