"""How good a flow gets in a given time on one thread: ESS of fresh samples and steps per second, over seeds.

    python tests/benchmarks/bench_flow_training.py [--theory u1] [--beta 2] [--c1 0.08333] [--shape 8 8] [--seconds 120]
        [--flow plaquette_coupling] [--options '{"transform": "spline"}'] [--seeds 1 2 3] [--cpu-time]

Prints one line per set of options and seed. --cpu-time counts this process's own time, for machines shared with others.
Run it with OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1.
"""

import argparse
import inspect
import json
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from lattice_flows.flows import Flow, initialise, plaquette_coupling
from lattice_flows.flows.hybrid import hybrid
from lattice_flows.flows.multiscale import multiscale
from lattice_flows.statistics import effective_sample_size
from lattice_flows.theories import Action, ImprovedU1, WilsonU1
from lattice_flows.training import TrainingSettings, evaluate, loop, train

N_SAMPLES = 16_384
BUILDERS = {"plaquette_coupling": plaquette_coupling, "multiscale": multiscale, "hybrid": hybrid}


def build(name: str, shape: tuple[int, int], action: Action, options: dict[str, Any]) -> Flow:
    builder = BUILDERS[name]
    arguments = (shape, action) if "action" in inspect.signature(builder).parameters else (shape,)
    return builder(*arguments, **options)


def measure(flow: Flow, action: Action, seconds: float, seed: int, training: dict[str, Any]) -> str:
    initialise(flow, torch.Generator().manual_seed(seed))
    settings = TrainingSettings(max_seconds=seconds, **training)
    with tempfile.TemporaryDirectory() as folder:
        result = train(flow, action, settings, Path(folder), seed=seed, header={})
    log_w = evaluate(flow, action, N_SAMPLES, torch.Generator().manual_seed(10_000 + seed))
    ess = effective_sample_size(log_w)
    largest = float(torch.softmax(torch.from_numpy(log_w), 0).max())
    rate = result.step / result.train_seconds
    return (
        f"seed {seed}: ESS {ess.value:.4f} +- {ess.error:.4f}, largest weight's share {largest:.4f}, {rate:.1f} steps/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--theory", choices=["u1", "u1_improved"], default="u1")
    parser.add_argument("--beta", type=float, default=2.0)
    parser.add_argument("--c1", type=float, default=1 / 12)
    parser.add_argument("--shape", type=int, nargs=2, default=(8, 8))
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--flow", choices=list(BUILDERS), default="plaquette_coupling")
    parser.add_argument("--options", type=json.loads, nargs="+", default=[{}], help="of the flow, JSON tables")
    parser.add_argument("--training", type=json.loads, default={}, help="of the training, a JSON table")
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.cpu_time:
        loop.time = SimpleNamespace(perf_counter=time.process_time)
    action = WilsonU1(arguments.beta) if arguments.theory == "u1" else ImprovedU1(arguments.beta, arguments.c1)
    for options in arguments.options:
        for seed in arguments.seeds:
            flow = build(arguments.flow, tuple(arguments.shape), action, options)
            line = measure(flow, action, arguments.seconds, seed, arguments.training)
            print(f"{arguments.flow} {json.dumps(options)} {line}", flush=True)


if __name__ == "__main__":
    main()
