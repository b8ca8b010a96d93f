"""Boltzmann generators of two potentials: python runs/boltzmann/wells.py output/boltzmann [docs/boltzmann]

Makes a few configurations of each state, runs double_well.toml and mueller_brown.toml, which train on them, and then
prints a table of log Z, probabilities and free energies beside their exact values. With a second folder it draws a
picture of each system there. What is finished is left alone, so the same command goes on after an interruption.
"""

import argparse
from pathlib import Path

from generator.estimates import COLUMNS, rows_of
from generator.finished import Finished
from generator.pictures import draw
from generator.systems import SYSTEMS, System, write_states
from rich.console import Console

from lattice_flows.estimates.selection import EVERYTHING
from lattice_flows.exit_status import run_as_command
from lattice_flows.stages import analyse_stage, sample_stage, train_stage

HERE = Path(__file__).parent
SMALL: list[str] = []  # overrides of the cards, for a test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("pictures", type=Path, nargs="?")
    names = [system.name for system in SYSTEMS]
    parser.add_argument("--systems", nargs="+", choices=names, default=names)
    given = parser.parse_args()
    for system in [one for one in SYSTEMS if one.name in given.systems]:
        finished = Finished.of(system, generated(system, given.out))
        print("\n".join([f"\n{system.title}\n", *COLUMNS, *rows_of(finished)]), flush=True)
        if given.pictures is not None:
            given.pictures.mkdir(parents=True, exist_ok=True)
            draw(finished, given.pictures / f"{system.name}.png")


def generated(system: System, out: Path) -> Path:
    """The run folder of the system's card, finished."""
    card, folder, console = HERE / f"{system.name}.toml", out / system.name, Console()
    overrides = [f'training.data="{write_states(system, out)}"', *SMALL]
    train_stage(card, folder, overrides, console)
    sample_stage(card, folder, overrides, [], console)
    analyse_stage(folder, None, EVERYTHING, console)
    return folder


if __name__ == "__main__":
    run_as_command(main)
