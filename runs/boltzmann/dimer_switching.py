"""Delta F of the dimer by nonequilibrium paths that pull it open and push it shut.

    python runs/boltzmann/dimer_switching.py output/switching

Equilibrium chains of the closed dimer and of the open one run side by side. Again and again a path leaves each chain
for the other state, led by a spring that moves along the dimer's length while HMC moves the bath; the chain itself
stays where it is. The works of both directions give F_open - F_closed by BAR, in units of kT. What is finished is kept:
the same command goes on after an interruption, and a larger --paths makes more of them.
"""

import argparse
import io
import time
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, is_zipfile

import numpy as np
from bath.states import BARRIER, MINIMA, SAMPLER, kept_on_side, settled
from rich.console import Console

from lattice_flows.atomic_files import write_atomically
from lattice_flows.errors import InputError
from lattice_flows.exit_status import run_as_command
from lattice_flows.kernels.random import split_streams
from lattice_flows.samplers import HMC
from lattice_flows.samplers.hmc import HMCState
from lattice_flows.samplers.steered_paths import SteeredPaths
from lattice_flows.statistics import bennett, effective_sample_size
from lattice_flows.terminal.interrupt import StopRequest, stop_on_signals
from lattice_flows.terminal.numbers import with_error
from lattice_flows.terminal.progress import meter
from lattice_flows.theories import DimerBath

N_CHAINS = 64  # on either side
N_THERMALISATION = 4000
N_BETWEEN = 100  # trajectories of a chain between two of its paths
N_LEAST = 20  # paths of each chain, for an error
SAVED_AFTER = 20.0  # seconds


@dataclass(frozen=True)
class Side:
    """The chains of one state, and the works (n, B) of the paths that left them."""

    name: str
    chains: HMCState
    works: np.ndarray

    def after(self, paths: SteeredPaths) -> "Side":
        """With one more path of each chain."""
        chains = kept_on_side(self.chains, SAMPLER.step(self.chains, N_BETWEEN)[0], self.name)
        ends = paths(chains.x, split_streams(chains.streams, len(self.works)))
        return Side(self.name, chains, np.concatenate([self.works, ends.work[None]]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--paths", type=int, default=200, help=f"of each of {2 * N_CHAINS} chains, {N_LEAST} or more")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--centres", type=int, default=1000, help="of the moving spring, one trajectory at each")
    given = parser.parse_args()
    if given.paths < N_LEAST:
        raise InputError(f"--paths must be {N_LEAST} or more, got {given.paths}: an error is estimated from as many")
    if given.centres < 2:
        raise InputError(f"--centres must be 2 or more, got {given.centres}")
    given.out.mkdir(parents=True, exist_ok=True)
    paths = SteeredPaths(HMC(DimerBath(), 0.15, 6), MINIMA["closed"], MINIMA["open"], BARRIER, n_centres=given.centres)
    with stop_on_signals() as stop:
        rows = [row(seed, *switched(given.out, seed, paths, given.paths, stop)) for seed in given.seeds]
    head = "| seed | F_open - F_closed | paths each way | work lost | ESS to open | ESS to closed | seconds |"
    print("\n".join([head, "|---|---|---|---|---|---|---|", *rows]))


def switched(folder: Path, seed: int, paths: SteeredPaths, n_paths: int, stop: StopRequest) -> tuple[Side, Side, float]:
    """Both sides with so many paths of each chain, and the seconds these took; kept in a file of the folder."""
    file = folder / f"seed_{seed}_centres_{paths.n_centres}.npz"
    closed, opened, spent = read(file) if file.exists() else (begun("closed", seed), begun("open", seed), 0.0)
    saved = spent
    with meter(Console(), f"seed {seed}", n_paths, "paths of each chain") as progress:
        while len(closed.works) < n_paths:
            start = time.perf_counter()
            closed, opened = closed.after(paths), opened.after(paths.reversed())
            spent += time.perf_counter() - start
            if spent - saved > SAVED_AFTER or len(closed.works) == n_paths or stop():
                write(file, closed, opened, spent)
                saved = spent
            stop.raise_if_set()
            progress.update(len(closed.works), "")
    return closed, opened, spent


def begun(side: str, seed: int) -> Side:
    """Chains in equilibrium, before any path."""
    return Side(side, settled(side, seed, N_CHAINS, N_THERMALISATION), np.empty((0, N_CHAINS)))


def write(file: Path, closed: Side, opened: Side, seconds: float) -> None:
    """Keep everything, in place of what was kept before."""
    arrays = {"seconds": np.array(seconds)}
    for side in (closed, opened):
        arrays |= {f"{side.name}_{key}": value for key, value in side.chains._asdict().items()}
        arrays[f"{side.name}_works"] = side.works
    held = io.BytesIO()
    np.savez(held, allow_pickle=False, **arrays)
    write_atomically(file, held.getvalue())


def read(file: Path) -> tuple[Side, Side, float]:
    """What was kept."""
    try:
        if not is_zipfile(file):  # which np.load leaves half open
            raise BadZipFile
        with np.load(file) as held:
            closed, opened = (
                Side(name, HMCState(*(held[f"{name}_{key}"] for key in HMCState._fields)), held[f"{name}_works"])
                for name in MINIMA
            )
            return closed, opened, float(held["seconds"])
    except (OSError, ValueError, KeyError, BadZipFile):
        raise InputError(f"{file}: does not hold what this script keeps; remove it to begin anew") from None


def row(seed: int, closed: Side, opened: Side, seconds: float) -> str:
    """Of the table: Delta F, how many paths, <W_closed + W_open> / 2, and what the paths are worth as samples."""
    try:
        found = bennett(-closed.works, opened.works)
        value = f"{-found.value:.3f} +- {found.error:.3f}"
    except RuntimeError:
        value = "no overlap of both directions: take more --centres"
    lost = 0.5 * (closed.works.mean() + opened.works.mean())
    worth = " | ".join(with_error(*effective_sample_size(-side.works.ravel())) for side in (closed, opened))
    return f"| {seed} | {value} | {closed.works.size} | {lost:.2f} | {worth} | {seconds:.0f} |"


if __name__ == "__main__":
    run_as_command(main)
