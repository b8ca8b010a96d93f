"""Metadynamics in the smooth charge: a bias that the chains build themselves and then keep."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from lattice_flows.samplers.charge_bias import begun, biased_trajectories, charge_reach, require_u1, tuned_n_md_steps
from lattice_flows.samplers.hmc import HMC
from lattice_flows.samplers.sampler import Array, Report, Sampler, Streams, silent
from lattice_flows.samplers.tuning import warming
from lattice_flows.theories.action import Action
from lattice_flows.theories.u1.kernels import biased_hmc as biased_hmc_u1

_HOT = 0.1  # of the thermalisation; a chain from a hot start is no guide to the free energy


class MetadynamicsState(NamedTuple):
    """x (B, 2, L0, L1), its action S without the bias (B,), its smooth charge (B,), the random streams (B, 2), and the
    bias of each chain on the grid (B, n_grid)."""

    x: Array
    action: Array
    charge: Array
    streams: Streams
    bias: Array


class BiasedInfo(NamedTuple):
    """The accepted fraction of the updates, delta_h of the last one with the bias in it, and of the current state the
    log weight and the smooth charge, each (B,)."""

    accepted: Array
    delta_h: Array
    log_w: Array
    smooth_charge: Array


@dataclass(frozen=True)
class Metadynamics(Sampler):
    """HMC of exp(-S - V(Q_s)) of 2D U(1), with a V(Q_s) that fills the valleys of the free energy (arXiv:1508.07270).

    Thermalisation builds V by well-tempered deposits (arXiv:0803.3861), one a trajectory, with a V of its own for each
    chain. Production leaves V as it is. Averages have the weights exp(+V), see `log_weights`: exact for any V, but a V
    that is not finished leaves the charge as frozen as it was, and no error tells. n_thermalisation should be 2000 or
    more on 16 x 16, and grow at least like q_max; the 100 of a card that does not say are far too few.

    action: that of 2D U(1).
    trajectory_length, n_md_steps, target_acceptance, integrator: as for HMC; n_md_steps is tuned without the bias.
    height: of the first Gaussian, in units of the action.
    width: of the Gaussians, in units of Q_s. 0.1 does for beta = 6 ... 10 on 16 x 16; half of it makes V rough, which
    costs acceptance.
    bias_factor: V tends to -(1 - 1/bias_factor) times the free energy; inf flattens all, with noise.
    q_max: the grid reaches from -q_max to q_max, and V is constant outside; None asks `tune` for the middle of the
    sector 3.5 standard deviations of the charge away.
    n_grid: points of the grid, no further apart than the width.

    Raises ValueError for values out of range and an action other than that of 2D U(1).
    """

    action: Action
    trajectory_length: float = 1.0
    n_md_steps: int | None = None
    target_acceptance: float = 0.8
    integrator: str = "leapfrog"
    height: float = 0.2
    width: float = 0.1
    bias_factor: float = 10.0
    q_max: float | None = None
    n_grid: int = 501
    weighted: ClassVar[bool] = True
    fewest_deposits: ClassVar[int] = 1000

    def __post_init__(self) -> None:
        require_u1(self.action)
        self._hmc.__post_init__()
        for name in ("height", "width"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if not self.bias_factor > 1:
            raise ValueError(f"bias_factor must be > 1, got {self.bias_factor}")
        if not 2 <= self.n_grid <= 100_000:
            raise ValueError(f"n_grid must be between 2 and 100000, got {self.n_grid}")
        if self.q_max is not None:
            _require_fine_grid(self.q_max, self.n_grid, self.width)

    @property
    def _hmc(self) -> HMC:
        return HMC(self.action, self.trajectory_length, self.n_md_steps, self.target_acceptance, self.integrator)

    def init(self, x: Array, streams: Streams) -> MetadynamicsState:
        """The state of chains at x (B, 2, L0, L1), without a bias."""
        return MetadynamicsState(*begun(self.action, x, streams), np.zeros((len(x), self.n_grid)))

    def step(self, state: MetadynamicsState, n_updates: int = 1) -> tuple[MetadynamicsState, BiasedInfo]:
        """n_updates trajectories of every chain under its bias, which stays as it is.

        Raises ValueError when n_md_steps or q_max was neither given nor tuned.
        """
        q_max = self._known_q_max()
        chains, accepted, delta_h = biased_trajectories(self._hmc, state[:4], state.bias, q_max, n_updates)
        new = MetadynamicsState(*chains, state.bias)
        return new, BiasedInfo(accepted, delta_h, self.log_weights(new), new.charge.copy())

    def thermalise(self, state: MetadynamicsState, done: float) -> MetadynamicsState:
        """One trajectory, and a deposit where it ends.

        The first tenth of them takes small steps and deposits nothing: a chain may come from a hot start.
        """
        if done < _HOT:
            return replace(self, n_md_steps=warming(self.n_md_steps)).step(state)[0]
        state, _ = self.step(state)
        q_max = self._known_q_max()
        place = np.clip(state.charge, -q_max, q_max)  # V is one constant outside, which must rise, too
        bias = biased_hmc_u1.deposit(state.bias, q_max, place, self.height, self.width, self.bias_factor)
        return state._replace(bias=bias)

    def log_weights(self, state: MetadynamicsState) -> Array:
        """log w = V(Q_s) - mean of V over the grid, of each chain, (B,).

        <w O> / <w> pools the chains with whatever constant for each: its numerator and its denominator both expect the
        same factor, Z / Z_V exp(-constant), from a chain. Only the error suffers where these factors differ. After
        equally many deposits the mean of V made them differ least: by a factor of exp(0.2 ... 0.5), half of what its
        maximum or the free energy that V stands for left (16 x 16, beta = 6 ... 10).
        """
        return biased_hmc_u1.bias_at(state.bias, self._known_q_max(), state.charge) - state.bias.mean(axis=1)

    def moved(self, state: MetadynamicsState, x: Array) -> MetadynamicsState:
        """The same chains at x (B, 2, L0, L1), each with the bias that it has."""
        return MetadynamicsState(*begun(self.action, x, state.streams), state.bias)

    def target(self, state: MetadynamicsState, x: Array) -> Array:
        """S(x) + V(Q_s(x)) of each chain, (B,)."""
        charge = biased_hmc_u1.smooth_charge(x)
        return self.action.evaluate(x) + biased_hmc_u1.bias_at(state.bias, self._known_q_max(), charge)

    @property
    def tuned(self) -> bool:
        """Whether n_md_steps and q_max are known."""
        return self.n_md_steps is not None and self.q_max is not None

    def tune(self, state: MetadynamicsState, n_updates: int, report: Report = silent) -> "Metadynamics":
        """This sampler with n_md_steps as HMC finds it, and q_max.

        Raises ValueError where the grid that this takes is coarser than the width.
        """
        n_md_steps = tuned_n_md_steps(self._hmc, state[:4], n_updates, report)
        q_max = self.q_max or charge_reach(self.action, state.x.shape[2:])
        return replace(self, n_md_steps=n_md_steps, q_max=q_max)

    def findings(self) -> dict[str, Any]:
        """n_md_steps and q_max."""
        return {"n_md_steps": self.n_md_steps, "q_max": self.q_max}

    def with_findings(self, settings: Mapping[str, Any]) -> "Metadynamics":
        """This sampler with the stored n_md_steps and q_max."""
        return replace(self, n_md_steps=settings["n_md_steps"], q_max=settings["q_max"])

    def _known_q_max(self) -> float:
        if self.q_max is None:
            raise ValueError("q_max is not set: give it, or call tune() first")
        return float(self.q_max)


def _require_fine_grid(q_max: float, n_grid: int, width: float) -> None:
    if not 0 < q_max < float("inf"):
        raise ValueError(f"q_max must be > 0, got {q_max}")
    if 2.0 * q_max / (n_grid - 1) > width:
        fewest = int(np.ceil(2.0 * q_max / width)) + 1
        raise ValueError(f"n_grid must be at least {fewest} for q_max = {q_max:g} and width = {width:g}, got {n_grid}")
