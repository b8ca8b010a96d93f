"""Every construction on densities of the plane, by likelihood and by energy: plane.py output/flow_catalogue FIGURES

A training is a folder OUT/CONSTRUCTION/DENSITY_OBJECTIVE, which goes on where it was; FIGURES receives a picture for
each construction, CONSTRUCTION.png, and plane.csv, the table of all. `--constructions` and `--densities` choose some.
"""

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from study.constructions import PLANE
from study.densities import DENSITIES, PlaneDensity
from study.pictures import draw_construction

from lattice_flows.exit_status import run_as_command
from lattice_flows.flows import ComposedFlow, Flow, refine
from lattice_flows.statistics import effective_sample_size
from lattice_flows.training import TrainingSettings, evaluate, train
from lattice_flows.training.source import Drawn

N_SAMPLES = 8192
COLUMNS = ("construction", "density", "parameters", "ess", "ess_error", "kl_by_energy", "kl", "kl_error", "seconds")
BY_ENERGY: dict[str, Any] = {"objective": "reverse_kl", "batch_size": 512, "anneal": 0.5}
BY_LIKELIHOOD: dict[str, Any] = {"objective": "forward_kl", "batch_size": 512, "data": "direct"}
COMMON: dict[str, Any] = {"learning_rate": 0.004, "warmup": 0.1, "monitor_every": 500}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("figures", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each training")
    parser.add_argument("--constructions", nargs="+", choices=list(PLANE), default=list(PLANE), metavar="NAME")
    parser.add_argument("--densities", nargs="+", choices=list(DENSITIES), default=list(DENSITIES), metavar="NAME")
    given = parser.parse_args()
    torch.set_num_threads(1)
    console, rows = Console(), []
    given.figures.mkdir(parents=True, exist_ok=True)
    for name in given.constructions:
        trained = {}
        for density in given.densities:
            flows = trained_flows(name, density, given.out / name, given.seconds)
            trained[density] = flows
            rows.append(table_row(name, density, flows, given.out / name))
            console.print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), highlight=False)
        draw_construction(name, trained, given.figures / f"{name}.png")
    write_table(rows, given.figures / "plane.csv")


def plan_of(name: str, density: PlaneDensity) -> ComposedFlow:
    """The flow of a construction."""
    construction = PLANE[name]
    return ComposedFlow(
        (), density, transforms=construction.transforms, n_repeats=construction.n_repeats, prior="gaussian"
    )


def trained_flows(name: str, density_name: str, folder: Path, seconds: float) -> dict[str, Flow]:
    """The flows trained by each objective that the construction allows."""
    density, flows = DENSITIES[density_name](), {}
    plan = plan_of(name, density)
    for objective, options in (("energy", BY_ENERGY), ("likelihood", BY_LIKELIHOOD)):
        if objective == "likelihood" and "inverse" not in plan.offers:
            continue
        flow, place = plan.build(), folder / f"{density_name}_{objective}"
        assert isinstance(flow, Flow)
        settings = TrainingSettings(**options, **COMMON, max_seconds=seconds)
        data = Drawn(density.sample) if objective == "likelihood" else None
        done = place / "result.json"
        result = train(flow.double(), density, settings, place, seed=1, header={}, data=data)
        if not done.exists():
            done.write_text(json.dumps(measured(flow, density, plan.integrated, result.train_seconds)))
        flows[objective] = flow.requires_grad_(False)
    return flows


def measured(flow: Flow, density: PlaneDensity, integrated: bool, seconds: float) -> dict[str, Any]:
    """ESS of fresh samples, and KL(p|q) = <log p - log q> of fresh points of the density; Z is 1."""
    generator = torch.Generator().manual_seed(2)
    if integrated:
        refine(flow, density, flow.prior.sample(256, generator))
    log_w = evaluate(flow, density, N_SAMPLES, generator)
    ess = effective_sample_size(log_w)
    with torch.no_grad():
        x = density.sample(N_SAMPLES, generator)
        excess = density.log_prob(x) - flow.log_prob(x)
    return {
        "parameters": sum(weight.numel() for weight in flow.parameters()),
        "ess": ess.value,
        "ess_error": ess.error,
        "reverse_kl": -float(log_w.mean()),
        "seconds": seconds,
        "kl": float(excess.mean()),
        "kl_error": float(excess.std()) / math.sqrt(N_SAMPLES),
    }


def table_row(name: str, density: str, flows: dict[str, Flow], folder: Path) -> dict[str, Any]:
    """One line of the table: the ESS of the flow that learnt the energy, KL(p|q) of the one that learnt the points."""
    results = {key: json.loads((folder / f"{density}_{key}" / "result.json").read_text()) for key in flows}
    energy, points = results["energy"], results.get("likelihood", {})
    return {
        "construction": name,
        "density": density,
        "parameters": energy["parameters"],
        "ess": f"{energy['ess']:.4f}",
        "ess_error": f"{energy['ess_error']:.4f}",
        "kl_by_energy": f"{energy['reverse_kl']:.4f}",
        "kl": f"{points['kl']:.4f}" if "kl" in points else "",
        "kl_error": f"{points['kl_error']:.4f}" if "kl" in points else "",
        "seconds": f"{energy['seconds']:.0f}",
    }


def write_table(rows: list[dict[str, Any]], target: Path) -> None:
    """The rows, beside those that the table has of other constructions or densities."""
    held = {}
    if target.exists():
        with target.open(newline="") as file:
            held = {(row["construction"], row["density"]): row for row in csv.DictReader(file)}
    held |= {(row["construction"], row["density"]): row for row in rows}
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(held.values())


if __name__ == "__main__":
    run_as_command(main)
