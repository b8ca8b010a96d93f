"""Every lattice construction on phi^4, m2 = -4: lattice.py output/flow_catalogue [--system 8x8] [--seconds 100]

Prints a line for each construction and writes OUT/SYSTEM.csv: parameters, milliseconds a step, seconds until the ESS
was 0.5, ESS of 8192 fresh samples in double precision, milliseconds for an independent sample, and beside integrated
constructions the change of log w by twice as many steps. The last line is that of the cluster mixture, which no flow
beats here. One thread; a training goes on where it was.
"""

import argparse
import csv
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from rich.console import Console
from study.constructions import LATTICE, Construction

from lattice_flows.exit_status import run_as_command
from lattice_flows.flows import ComposedFlow, Flow, refine
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import Cluster, HeatBath, Mixture, Part
from lattice_flows.statistics import effective_sample_size, gamma_method, pareto_k
from lattice_flows.theories import Phi4
from lattice_flows.training import TrainingSettings, evaluate, recommended, train

N_SAMPLES = 8192
N_UPDATES = 4000  # of the cluster mixture
SYSTEMS = {"8x8": (8, 8.0), "6": (6, 6.975), "12": (12, 5.276), "20": (20, 4.807), "32": (32, 4.572)}
"""Sides and lam; all but the first have xi = L/4."""
COLUMNS = (
    "construction",
    "parameters",
    "seconds",
    "ms_per_step",
    "seconds_to_half",
    "ess",
    "ess_error",
    "k_hat",
    "step_error",
    "ms_per_independent",
)


class System(NamedTuple):
    """A lattice and its action."""

    shape: tuple[int, int]
    action: Phi4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--system", choices=list(SYSTEMS), default="8x8")
    parser.add_argument("--seconds", type=float, default=100.0, help="of each training")
    parser.add_argument("--constructions", nargs="+", choices=list(LATTICE), default=list(LATTICE), metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    side, lam = SYSTEMS[given.system]
    system = System((side, side), Phi4(-4.0, lam))
    console, rows = Console(width=200), []
    for name in given.constructions:
        folder = given.out / given.system / f"{name.replace(', ', '_').replace(' ', '_')}_seed{given.seed}"
        rows.append({"construction": name, **trained(LATTICE[name], system, folder, given.seconds, given.seed)})
        console.print(line_of(rows[-1]), highlight=False)
    rows.append({"construction": "clusters and heat bath", "ms_per_independent": clusters(system)})
    console.print(line_of(rows[-1]), highlight=False)
    with (given.out / f"{given.system}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{v:.4g}" if isinstance(v, float) else v for key, v in row.items()} for row in rows)


def trained(construction: Construction, system: System, folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Train and measure, or read what was measured before."""
    done = folder / "result.json"
    if done.exists():
        return dict(json.loads(done.read_text()))
    plan = ComposedFlow(
        system.shape, system.action, transforms=construction.transforms, n_repeats=construction.n_repeats
    )
    flow = plan.build()
    assert isinstance(flow, Flow)
    suitable = recommended("composed", {"transforms": construction.transforms})
    settings = TrainingSettings(
        **{"batch_size": 64, "final_batch_size": 256, "monitor_every": 50, "max_seconds": seconds, **suitable}
    )
    result = train(flow, system.action, settings, folder, seed=seed, header={})
    row = {
        "parameters": sum(weight.numel() for weight in flow.parameters()),
        "seconds": result.train_seconds,
        "ms_per_step": 1e3 * result.train_seconds / result.step,
        "seconds_to_half": seconds_to(folder / "history.csv", 0.5),
        **measured(flow.double(), system, plan.integrated),
    }
    done.write_text(json.dumps(row))
    return row


def measured(flow: Flow, system: System, integrated: bool) -> dict[str, float | None]:
    """ESS of fresh samples, its k-hat, the step error of integrated maps, and the cost of an independent sample."""
    generator = torch.Generator().manual_seed(2)
    step_error = refine(flow, system.action, flow.prior.sample(256, generator)) if integrated else None
    begin = time.perf_counter()
    log_w = evaluate(flow, system.action, N_SAMPLES, generator)
    cost = (time.perf_counter() - begin) / N_SAMPLES
    ess = effective_sample_size(log_w)
    return {
        "ess": ess.value,
        "ess_error": ess.error,
        "k_hat": pareto_k(log_w),
        "step_error": step_error,
        "ms_per_independent": 1e3 * cost / ess.value,
    }


def seconds_to(history: Path, aim: float) -> float | None:
    """Seconds of training until a look found this ESS."""
    with history.open(newline="") as file:
        found = [float(row["seconds"]) for row in csv.DictReader(file) if float(row["ess"]) >= aim]
    return found[0] if found else None


def clusters(system: System, n_chains: int = 8) -> float:
    """Milliseconds for an independent configuration of M^2 by five Wolff clusters and a heat-bath sweep in turn."""
    mixture = Mixture(system.action, (Part(Cluster(system.action), 5), Part(HeatBath(system.action), 1)))
    state = mixture.init(np.zeros((n_chains, *system.shape)), make_streams(1, "clusters", range(n_chains)))
    state, _ = mixture.step(state, 200)
    series, begin = [], time.perf_counter()
    for _ in range(N_UPDATES):
        state, _ = mixture.step(state)
        series.append(state.x.mean((1, 2)) ** 2)
    cost = (time.perf_counter() - begin) / (N_UPDATES * n_chains)
    return 1e3 * cost * 2.0 * gamma_method(np.stack(series)).tau_int


def line_of(row: dict[str, Any]) -> str:
    """The row as text."""
    figures = [f"{key} {row[key]:.4g}" for key in COLUMNS[1:] if row.get(key) is not None and not _nan(row[key])]
    return f"{row['construction']:26} {'  '.join(figures)}"


def _nan(value: float) -> bool:
    return isinstance(value, float) and math.isnan(value)


if __name__ == "__main__":
    run_as_command(main)
