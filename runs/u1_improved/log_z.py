"""log Z of u1_improved by integration in c1 at fixed beta, from the closed form at c1 = 0:

    python runs/u1_improved/log_z.py output/u1_improved/log_z --beta 6 --c1 0.08333333333333333 --shape 16 16

d log Z / d c1 = -<E>, E = dS/dc1 = beta [ sum_R (1 - cos R) - 8 sum_P (1 - cos P) ], by Gauss-Legendre nodes between 0
and c1, each a run of card.toml. The same chains with those at both ends, joined by MBAR, give log Z a second time. What
is finished is left alone.
"""

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from lattice_flows.ensembles import Ensemble
from lattice_flows.exit_status import run_as_command
from lattice_flows.stages import sample_stage
from lattice_flows.statistics import ValueWithError, gamma_method, log_z_differences
from lattice_flows.theories import ExactU1

CARD, ENSEMBLE = Path(__file__).with_name("card.toml"), "reference"
N_NODES = 8
MOST_IN_MBAR = 300_000  # configurations of all nodes together, evenly taken

Array = NDArray[np.float64]


class LogZ(NamedTuple):
    """log Z relative to the normalised Haar measure, the same twice from almost the same chains."""

    integrated: ValueWithError
    joined: ValueWithError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--beta", type=float, required=True)
    parser.add_argument("--c1", type=float, required=True)
    parser.add_argument("--shape", type=int, nargs=2, required=True)
    parser.add_argument("--n-configs", type=int, default=50_000, help="of each of 20 chains at each node")
    arguments = parser.parse_args()
    found = log_z(arguments.out, arguments.beta, arguments.c1, tuple(arguments.shape), arguments.n_configs, Console())
    print(f"log Z = {found.integrated.value:.5f} +- {found.integrated.error:.5f} by integration")
    print(f"log Z = {found.joined.value:.5f} +- {found.joined.error:.5f} by MBAR")


def log_z(out: Path, beta: float, c1: float, shape: tuple[int, ...], n_configs: int, console: Console) -> LogZ:
    """log Z at beta and c1; the runs of the nodes are folders in `out`."""
    nodes, weights = np.polynomial.legendre.leggauss(N_NODES)
    inner, weights = 0.5 * c1 * (nodes + 1.0), 0.5 * c1 * weights
    series = [slope(out, beta, node, shape, n_configs, console) for node in (0.0, *map(float, inner), c1)]
    start = ExactU1(beta, math.prod(shape)).log_z

    means = [gamma_method(one) for one in series[1:-1]]
    integral = sum(weight * mean.value for weight, mean in zip(weights, means))
    error = math.sqrt(sum((weight * mean.error) ** 2 for weight, mean in zip(weights, means)))
    integrated = ValueWithError(float(start - integral), error)

    every = max(1, sum(one.size for one in series) // MOST_IN_MBAR)
    sign = math.copysign(1.0, c1)  # the couplings must rise
    difference = log_z_differences([sign * one[::every] for one in series], [0.0, *(sign * inner), sign * c1])[-1]
    return LogZ(integrated, ValueWithError(start + difference.value, difference.error))


def slope(out: Path, beta: float, c1: float, shape: tuple[int, ...], n_configs: int, console: Console) -> Array:
    """dS/dc1 of the configurations at this node, (n_configs, n_chains)."""
    theory = {"beta": beta, "c1": c1, "shape": list(shape)}
    overrides = [f"theory.{key}={value}" for key, value in theory.items()]
    folder = sample_stage(
        CARD, out / f"c1_{c1:.6f}", [*overrides, f"ensemble.{ENSEMBLE}.n_configs={n_configs}"], [ENSEMBLE], console
    )
    with Ensemble.open(folder.path / "ensembles" / f"{ENSEMBLE}.h5") as ensemble:
        plaquette, rectangle = ensemble.series("plaquette"), ensemble.series("wilson_loop_1x2")
    n_sites = math.prod(shape)
    return beta * n_sites * (2.0 * (1.0 - rectangle) - 8.0 * (1.0 - plaquette))  # one 1x2 and one 2x1 for each site


if __name__ == "__main__":
    run_as_command(main)
