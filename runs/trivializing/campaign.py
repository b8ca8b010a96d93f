"""Trivializing maps beside classical samplers: python runs/trivializing/campaign.py output/trivializing

Two scans, every sampler with the same seconds. "points": towards the continuum, each point with a map of its own: the
exact one for u1, a trained hybrid for u1_improved. "volumes": one set of weights, trained on 8x8, used on 8x8 to 64x64.
What is finished is left alone, so the same command goes on after an interruption; more --seconds lengthen the chains.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lattice_flows.estimates.selection import EVERYTHING
from lattice_flows.exit_status import run_as_command
from lattice_flows.stages import analyse_stage, sample_stage, train_stage

CARDS = Path(__file__).parent
HMC = ("hmc", "hmc_hop_1", "hmc_hop_4", "hmc_hop_16")
HEATBATH = ("heatbath_hop_1", "heatbath_hop_4", "heatbath_hop_16")  # of u1 alone
FLOWS = ("flow_metropolis", "flow_hmc_none", "flow_hmc_clipped", "flow_hmc_full")
NAMES = ("hmc_hop_4", "flow_metropolis", "flow_hmc_none", "flow_hmc_clipped")  # for one set of weights

THEORIES = ("u1", "u1_improved")
POINTS = ((16, 6.0), (32, 16.0), (64, 48.0))

VOLUMES = (8, 16, 32, 64)
TRAINED_ON_8 = {  # theory, coupling and flow
    "coupling": ("u1", ["theory.beta=2.0", "flow={name = 'plaquette_coupling'}"]),
    "hybrid": ("u1_improved", [f"theory.c1={1 / 12}"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=15.0, help="of one ensemble")
    parser.add_argument("--training", type=float, default=150.0, help="seconds of one training")
    given = parser.parse_args()
    points(given.out, given.seconds, given.training)
    volumes(given.out, given.seconds, given.training)


def points(out: Path, seconds: float, training: float) -> None:
    """All samplers, towards the continuum."""
    for theory in THEORIES:
        names = [*HMC, *(HEATBATH if theory == "u1" else ()), *FLOWS, "flow_blocks"]
        for side, beta in POINTS:
            changes = [f"theory.shape=[{side}, {side}]", f"theory.beta={beta}", f"training.max_seconds={training}"]
            done(theory, out / "points" / f"{theory}_{side}x{side}", changes, names, seconds)


def volumes(out: Path, seconds: float, training: float) -> None:
    """Weights of 8x8 on larger lattices, beside the yardstick."""
    for flow, (theory, changes) in TRAINED_ON_8.items():
        parent = out / "volumes" / f"{flow}_8x8"
        weights = f"training.init_from={json.dumps(str(parent / 'flow' / 'checkpoint.pt'))}"
        for side in VOLUMES:
            is_parent = side == VOLUMES[0]
            own = [f"training.max_seconds={training}"] if is_parent else [weights, "training.max_steps=0"]
            shape = f"theory.shape=[{side}, {side}]"
            done(theory, parent.with_name(f"{flow}_{side}x{side}"), [shape, *changes, *own], NAMES, seconds)


def done(theory: str, folder: Path, changes: Sequence[str], names: Sequence[str], seconds: float) -> None:
    """Train, sample and analyse one run."""
    card, console = CARDS / f"{theory}.toml", Console()
    console.print(f"[bold]{folder}[/bold]")
    changes = [*changes, *(f"ensemble.{name}.max_seconds={seconds}" for name in names)]
    train_stage(card, folder, changes, console)
    sample_stage(card, folder, changes, names, console)
    analyse_stage(folder, None, EVERYTHING, console)


if __name__ == "__main__":
    run_as_command(main)
