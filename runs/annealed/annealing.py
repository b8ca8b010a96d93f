"""Annealing, populations, stochastic flows and flows alone: python runs/annealed/annealing.py output/annealed

"systems": log Z of four systems, every sampler with the same seconds, so that their errors of log Z compare. A
stochastic flow has the random updates of the annealing beside it. "volumes": how many updates a growing lattice takes,
and the weights of 8x8 used there. What is finished is left alone, so the same command goes on after an interruption;
more --seconds add samples.
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
PATHS, FLOW, YARDSTICK = ("annealed", "smc"), "flow", "yardstick"

SYSTEMS = {  # theory, and what it changes in the card
    "u1_16x16": ("u1", []),
    "u1_improved_16x16": ("u1_improved", []),
    "phi4_12x12": ("phi4", []),
    "phi4_20x20": ("phi4", ["theory.shape=[20, 20]", "theory.lam=4.81"]),
}
UPDATES, FROM_FLOWS = (48, 200, 800), (48, 200)  # random ones of a path; those that a stochastic flow has, too

PER_STEP = 4  # random updates of a step of a stochastic flow
INITIAL = {"phi4": "{m2 = 0.15, lam = 0.0}", "u1": "{beta = 1.0}", "u1_improved": "{beta = 1.0, c1 = 0.0}"}
COUPLINGS = "{flow = 'checkerboard_coupling', n_layers = 2, transform = 'affine', hidden = [2], kernel = 3}"
PLAQUETTES = "{flow = 'plaquette_map'}"
TRANSFORMS = {
    "phi4": ["{flow = 'fourier_scaling'}", COUPLINGS],
    "u1": [PLAQUETTES],
    "u1_improved": [PLAQUETTES],
}
RANDOM = {
    "phi4": "sampler = 'heatbath'",
    "u1": "sampler = 'heatbath'",
    "u1_improved": "sampler = 'hmc', n_md_steps = 3, trajectory_length = 0.6",
}
LEARNING_RATE = {"phi4": 0.006, "u1": 0.05, "u1_improved": 0.05}

VOLUMES = {  # side: updates of annealing
    "phi4": {8: 50, 16: 200, 24: 450},
    "u1": {8: 200, 16: 800, 32: 3200},
}
STEPS = {  # side: steps of the stochastic flow, whose weights are those of 8x8
    "phi4": {8: 8, 16: 32, 24: 72},
    "u1": {8: 25, 16: 25, 32: 25},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=15.0, help="of one ensemble")
    parser.add_argument("--training", type=float, default=150.0, help="seconds of training of a stochastic flow")
    parser.add_argument("--alone", type=float, default=150.0, help="seconds of training of a flow alone")
    given = parser.parse_args()
    systems(given.out / "systems", given.seconds, given.training, given.alone)
    volumes(given.out / "volumes", given.seconds, given.training)


def systems(out: Path, seconds: float, training: float, alone: float) -> None:
    """All samplers at each system."""
    for system, (theory, changes) in SYSTEMS.items():
        own = [*changes, f"training.max_seconds={alone}"]
        done(theory, out / system / "alone", own, (FLOW, YARDSTICK), seconds)
        for updates in UPDATES:
            flow = stochastic(theory, TRANSFORMS[theory], updates // PER_STEP) if updates in FROM_FLOWS else []
            own = [*changes, *flow, *(f"ensemble.{name}.n_steps={updates}" for name in PATHS)]
            own.append(f"training.max_seconds={training}")
            names = (*PATHS, FLOW) if flow else PATHS
            done(theory, out / system / f"updates_{updates}", own, names, seconds)


def volumes(out: Path, seconds: float, training: float) -> None:
    """Annealing with updates in proportion to the volume, and stochastic flows with the weights of 8x8."""
    for theory, sides in VOLUMES.items():
        transforms = [layer for layer in TRANSFORMS[theory] if "fourier" not in layer]  # which know the momenta of 8x8
        for side, updates in sides.items():
            shape, n_steps = f"theory.shape=[{side}, {side}]", STEPS[theory][side]
            flow = stochastic(theory, transforms, n_steps)
            parent = out / theory / f"weights_{n_steps}"
            trained = ["theory.shape=[8, 8]", *flow, f"training.max_seconds={training}"]
            done(theory, parent, trained, (FLOW,), seconds)
            weights = f"training.init_from={json.dumps(str(parent / 'flow' / 'checkpoint.pt'))}"
            own = [shape, *flow, f"ensemble.annealed.n_steps={updates}", weights, "training.max_steps=0"]
            done(theory, out / theory / f"{side}x{side}", own, ("annealed", FLOW), seconds)


def stochastic(theory: str, transforms: Sequence[str], n_steps: int) -> list[str]:
    """The flow of these transforms, and its training."""
    layers = ", ".join([*transforms, f"{{{RANDOM[theory]}, n_updates = {PER_STEP}}}"])
    flow = f"{{name = 'stochastic_flow', n_steps = {n_steps}, initial = {INITIAL[theory]}, layers = [{layers}]}}"
    return [f"flow={flow}", f"training.learning_rate={LEARNING_RATE[theory]}", "training.ema_decay=0.98"]


def done(theory: str, folder: Path, changes: Sequence[str], names: Sequence[str], seconds: float) -> None:
    """Train what is sampled, sample and analyse one run."""
    card, console = CARDS / f"{theory}.toml", Console()
    console.print(f"[bold]{folder}[/bold]")
    changes = [*changes, *(f"ensemble.{name}.max_seconds={seconds}" for name in names)]
    if FLOW in names:
        train_stage(card, folder, changes, console)
    sample_stage(card, folder, changes, names, console)
    analyse_stage(folder, None, EVERYTHING, console)


if __name__ == "__main__":
    run_as_command(main)
