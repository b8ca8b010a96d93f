"""The two potentials, and the configurations that their flows begin with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from lattice_flows.interchange.import_fields import import_fields
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC
from lattice_flows.terminal.interrupt import stop_on_signals
from lattice_flows.theories import DoubleWell, MuellerBrown
from lattice_flows.theories.potentials.action import Potential

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_N_CHAINS, _N_CONFIGS, _N_BETWEEN = 8, 16, 4  # chains of each state, and what each of them gives


@dataclass(frozen=True)
class System:
    """A potential of two coordinates, a minimum in its basin and one outside, and how to look at it."""

    name: str
    title: str
    action: Potential
    minima: tuple[tuple[float, float], tuple[float, float]]  # in the basin, and in the other one
    trajectory_length: float
    window: tuple[tuple[float, float], tuple[float, float]]  # of pictures, in x and in y
    highest: float  # F or S above its minimum that pictures show, in kT

    @property
    def basin(self) -> str:
        """As `P(...)` calls it."""
        half = self.action.basin
        return f"{'xy'[half.axis]} {'>' if half.above else '<'} {half.edge:g}"

    def inside(self, x: Array) -> Mask:
        """Whether points (..., 2) lie in the basin."""
        half = self.action.basin
        s = x[..., half.axis]
        return s > half.edge if half.above else s < half.edge


SYSTEMS = (
    System("double_well", "Double well", DoubleWell(), ((-1.71, 0.0), (1.75, 0.0)), 1.0, ((-3, 3), (-3.5, 3.5)), 14.0),
    System(
        "mueller_brown", "Mueller-Brown", MuellerBrown(), ((-0.56, 1.44), (0.62, 0.03)), 0.2,
        ((-1.5, 1.2), (-0.4, 2.1)), 14.0,
    ),
)  # fmt: skip


def write_states(system: System, out: Path) -> Path:
    """An ensemble file with as many configurations of either state: short chains that begin in the minima.

    Their shares are wrong on purpose: a simulation that does not pass the barrier cannot know the right ones.
    """
    path, array = out / f"{system.name}_states.h5", out / f"{system.name}_states.npy"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        sampler = HMC(system.action, system.trajectory_length, 10)
        x = np.repeat(np.array(system.minima), _N_CHAINS, axis=0)
        state = sampler.init(x, make_streams(1, "states", range(len(x))))
        kept = []
        for _ in range(2 * _N_CONFIGS):
            state, _ = sampler.step(state, _N_BETWEEN)
            kept.append(state.x)
        np.save(array, np.array(kept[_N_CONFIGS:]))  # (config, chain, 2)
        table = {"name": system.name, "scale": system.action.scale}
        with stop_on_signals() as stop:
            import_fields([array], table, path, Console(quiet=True), stop)
    return path.resolve()
