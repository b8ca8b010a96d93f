"""Nonequilibrium paths between two states of a collective variable, along which a moving spring leads HMC.

A path begins in equilibrium in a state A. A spring holds the variable s at one centre after another,

    S_k(x) = S(x) + (spring/2) (s(x) - c_k)^2,    k = 1 ... n,

with some trajectories at each, and lets go at the end. Its work W is the sum of all changes of the potential at the
configurations where they happen, infinite for an end outside the other state B, so that <exp(-W)> = Z_B / Z_A
(C. Jarzynski, cond-mat/9610209). This takes a spring that is strong enough: what exp(-S_1) has outside A, where no path
begins, is left out. Trajectories obey detailed balance: the paths of the opposite order from B to A are those of A to B
backwards, and `statistics.bennett` joins both by Crooks' relation (cond-mat/9901352).
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lattice_flows.samplers.annealing_path import Paths
from lattice_flows.samplers.biased_chains import Bias, begun, biased_trajectories
from lattice_flows.samplers.hmc import HMC
from lattice_flows.samplers.sampler import Array, Streams
from lattice_flows.theories.collective import CollectiveVariable

_N_GRID = 1001
_MOST_LEFT_OUT = 0.001  # of exp(-S_1), outside the state that paths begin in


@dataclass(frozen=True)
class SteeredPaths:
    """Paths of HMC from one state to the other, whose spring has its centre at `begin`, ..., `end` in turn.

    sampler: HMC of S with trajectory_length and n_md_steps. n_updates trajectories are made at each centre.
    begin, end: the first and the last centre, one in each state.
    divide: the value of the variable between both states.
    n_centres: from `begin` to `end`, equally spaced; twice as many halve the work that is lost, where the bath follows.
    spring: its constant. The variable is held within 1/sqrt(spring) of the centre, which must be far less than to the
    divide.
    variable: name of the collective variable; None: the theory's first.

    V is taken on a grid about the centres, linear between its points and constant outside: the trajectories and the
    work use this same V, so the grid makes nothing approximate.

    Raises ValueError for centres on the same side of the divide, numbers out of range, and an action without such a
    variable.
    """

    sampler: HMC
    begin: float
    end: float
    divide: float
    n_centres: int = 300
    spring: float = 400.0
    n_updates: int = 1
    variable: str | None = None

    def __post_init__(self) -> None:
        if not np.isfinite([self.begin, self.divide, self.end]).all():
            raise ValueError(f"begin, divide and end must be finite, got {self.begin}, {self.divide} and {self.end}")
        if not (self.begin < self.divide < self.end or self.begin > self.divide > self.end):
            raise ValueError(
                f"divide must be between begin and end, got {self.divide} with {self.begin} and {self.end}"
            )
        if self.n_centres < 2 or self.n_centres != int(self.n_centres):
            raise ValueError(f"n_centres must be an integer, 2 or more, got {self.n_centres}")
        if not 0 < self.spring < np.inf:
            raise ValueError(f"spring must be a positive number, got {self.spring}")
        if self.n_updates < 1 or self.n_updates != int(self.n_updates):
            raise ValueError(f"n_updates must be an integer, 1 or more, got {self.n_updates}")
        _ = self._variable

    @cached_property
    def _variable(self) -> CollectiveVariable:
        return self.sampler.action.collective_variable(self.variable)

    def reversed(self) -> "SteeredPaths":
        """The paths of the opposite order, from the other state to this one."""
        return replace(self, begin=self.end, end=self.begin)

    def holds(self, x: Array) -> np.ndarray:
        """Which configurations x (B, *event) are in the state that paths begin in, (B,)."""
        return (self._variable.value(x) > self.divide) == (self.begin > self.divide)

    def __call__(self, x: Array, streams: Streams) -> Paths:
        """The ends of paths from x (B, *event), and the work of each, infinite where it does not arrive.

        x in equilibrium in the first state: then exp(-W) weights the ends for the other one. streams (B, 2) are those
        of the paths alone. Raises ValueError for an x outside the first state, and for a spring that lets a path leave
        it at the first centre.
        """
        outside = int((~self.holds(x)).sum())
        if outside:
            raise ValueError(f"{outside} of {len(x)} paths would not begin in their state")
        chains = begun(self.sampler.action, self._variable, x, streams)
        work, before = np.zeros(len(x)), np.zeros(len(x))
        for k, centre in enumerate(np.linspace(self.begin, self.end, self.n_centres)):
            bias = self._bias(float(centre), len(x))
            work += bias.at(chains[2]) - before
            chains, _, _ = biased_trajectories(self.sampler, self._variable, chains, bias, self.n_updates)
            before = bias.at(chains[2])
            if k == 0:
                self._require_held(chains[0], work)
        return Paths(chains[0], np.where(self.holds(chains[0]), np.inf, work - before))

    def _require_held(self, x: Array, work: Array) -> None:
        """Raise ValueError where exp(-S_1), by weighted paths, has too much outside the first state."""
        weights = np.exp(work.min() - work)
        left = float(weights @ ~self.holds(x) / weights.sum())
        if left > _MOST_LEFT_OUT:
            raise ValueError(
                f"spring = {self.spring:g} is too weak: {left:.1%} of the paths leave their state at the first centre"
            )

    def _bias(self, centre: float, n: int) -> Bias:
        """V of the spring at this centre, for n chains."""
        middle, reach = 0.5 * (self.begin + self.end), abs(self.end - self.begin) + 1.0
        grid = np.linspace(middle - reach, middle + reach, _N_GRID)
        values = 0.5 * self.spring * np.square(grid - centre)
        return Bias(np.tile(values, (n, 1)), reach, middle)
