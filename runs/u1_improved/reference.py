"""Long chains of u1_improved at its test points: python runs/u1_improved/reference.py output/u1_improved

Runs card.toml at each point and writes tests/reference/u1_improved.json. What is finished is left alone.
"""

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lattice_flows.ensembles import Ensemble
from lattice_flows.estimates.selection import EVERYTHING
from lattice_flows.exit_status import run_as_command
from lattice_flows.stages import analyse_stage, sample_stage
from lattice_flows.statistics import sector_probabilities

CARD, ENSEMBLE = Path(__file__).with_name("card.toml"), "reference"
POINTS = [(6.0, 1.0 / 12.0), (3.0, -1.0 / 12.0)]
SIDES = [8, 16]
KEPT = ("plaquette", "topological_charge_squared", "topological_susceptibility", "wilson_loop_1x2", "wilson_loop_2x2")
COMMAND = "python runs/u1_improved/reference.py output/u1_improved"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--json", type=Path, default=Path("tests/reference/u1_improved.json"))
    parser.add_argument("--n-configs", type=int, default=100_000, help="of each chain at the points")
    arguments = parser.parse_args()
    write(arguments.json, [point(arguments.out, *at, side, arguments.n_configs) for side in SIDES for at in POINTS])


def write(path: Path, points: list[dict[str, Any]]) -> None:
    """The points with what made them."""
    text = {"command": COMMAND, "card": CARD.read_text(encoding="utf-8"), "points": points}
    path.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def point(out: Path, beta: float, c1: float, side: int, n_configs: int) -> dict[str, Any]:
    """What is known of one theory on one lattice."""
    console = Console()
    folder = out / f"{side}x{side}_beta{beta:g}_c1{c1:+.4f}"
    overrides = [f"theory.beta={beta}", f"theory.c1={c1}", f"theory.shape=[{side}, {side}]"]
    overrides.append(f"ensemble.{ENSEMBLE}.n_configs={n_configs}")
    run = sample_stage(CARD, folder, overrides, [ENSEMBLE], console)
    summary = analyse_stage(folder, None, EVERYTHING, console)
    entry = summary["ensembles"][ENSEMBLE]
    with Ensemble.open(run.path / "ensembles" / f"{ENSEMBLE}.h5") as ensemble:
        charge = np.rint(ensemble.series("topological_charge"))
    charges = sector_probabilities(charge)
    return {
        "theory": summary["theory"],
        "overrides": overrides,
        "seconds": entry["seconds"],
        "observables": {name: kept(entry["observables"][name]) for name in KEPT},
        "charge_distribution": {str(q): kept(estimate._asdict()) for q, estimate in sorted(charges.items())},
    }


def kept(estimate: Mapping[str, Any]) -> dict[str, float]:
    """Value, error and n_eff. Raises ValueError where there is none of them."""
    figures = {key: float(estimate[key]) for key in ("value", "error", "n_eff")}
    if not all(map(math.isfinite, figures.values())):
        raise ValueError(f"not a number in {figures}")
    return figures


if __name__ == "__main__":
    run_as_command(main)
