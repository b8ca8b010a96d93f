"""Delta F of the dimer by windows, with swaps and without: python runs/boltzmann/dimer.py output/dimer

Runs dimer.toml for each seed, and for the first one also without swaps, one chain in each window, all of them from one
closed configuration and from an open one. Prints F_open - F_closed in units of kT. What is finished is left alone, so
the same command goes on after an interruption; more --seconds make longer chains.
"""

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from bath.states import MINIMA, settled
from rich.console import Console

from lattice_flows.atomic_files import write_atomically
from lattice_flows.estimates.selection import EVERYTHING
from lattice_flows.exit_status import run_as_command
from lattice_flows.stages import analyse_stage, sample_stage

CARD, ENSEMBLE = Path(__file__).with_name("dimer.toml"), "windows"
N_THERMALISATION = 2000
SMALL: list[str] = []  # overrides of the card, for a test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=600.0, help="of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    lines = [line(f"swaps, seed {seed}", given.out / f"swaps_{seed}", seed, given.seconds) for seed in given.seeds]
    for side in MINIMA:
        path = start_of(side, given.out, given.seeds[0])
        alone = ["exchange_every=0", "n_chains=20", f"start={json.dumps(str(path))}"]
        lines.append(line(f"no swaps, from {side}", given.out / path.stem, given.seeds[0], given.seconds, alone))
    print("\n".join(["| windows | F_open - F_closed | round trips | seconds |", "|---|---|---|---|", *lines]))


def line(title: str, folder: Path, seed: int, seconds: float, changes: Sequence[str] = ()) -> str:
    """Run, analyse, and a row of the table."""
    overrides = [f"seed={seed}", *(f"ensemble.{ENSEMBLE}.{change}" for change in (f"max_seconds={seconds}", *changes))]
    console = Console()
    sample_stage(CARD, folder, [*overrides, *SMALL], [ENSEMBLE], console)
    entry = analyse_stage(folder, None, EVERYTHING, console)["ensembles"][ENSEMBLE]
    found = entry["observables"].get("free_energy_difference")
    shown = "too short" if found is None else f"{found['value']:.3f} +- {found['error']:.3f}"
    return f"| {title} | {shown} | {entry.get('round_trips', '')} | {entry['seconds']:.0f} |"


def start_of(side: str, folder: Path, seed: int) -> Path:
    """A file with one configuration in equilibrium on this side of the barrier, which HMC does not cross."""
    path = folder / f"{side}_{seed}.npy"
    if not path.exists():
        state = settled(side, seed, 1, N_THERMALISATION)
        path.parent.mkdir(parents=True, exist_ok=True)
        held = io.BytesIO()
        np.save(held, state.x[0])
        write_atomically(path, held.getvalue())
    return path


if __name__ == "__main__":
    run_as_command(main)
