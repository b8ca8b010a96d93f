"""How good a flow gets in a given time on one thread: ESS of fresh samples and steps per second, over seeds.

    python tests/benchmarks/bench_flow_training.py [--beta 2] [--shape 8 8] [--seconds 120] [--seeds 1 2 3] [--cpu-time]

Prints one line per transform and seed. --cpu-time counts this process's own time, for machines shared with others.
"""

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch

from lattice_flows.actions import WilsonU1
from lattice_flows.flows import initialise, plaquette_coupling
from lattice_flows.statistics import effective_sample_size
from lattice_flows.training import TrainingSettings, evaluate, loop, train

N_SAMPLES = 16_384


def measure(transform: str, shape: tuple[int, int], beta: float, seconds: float, seed: int) -> str:
    flow = plaquette_coupling(shape, transform=transform)
    initialise(flow, torch.Generator().manual_seed(seed))
    action, settings = WilsonU1(beta), TrainingSettings(max_seconds=seconds)
    with tempfile.TemporaryDirectory() as folder:
        result = train(flow, action, settings, Path(folder), seed=seed, header={})
    log_w = evaluate(flow, action, N_SAMPLES, torch.Generator().manual_seed(10_000 + seed))
    ess = effective_sample_size(log_w)
    rate = result.step / result.train_seconds
    return f"{transform:10} seed {seed}: ESS {ess.value:.3f} +- {ess.error:.3f}, {rate:.1f} steps/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beta", type=float, default=2.0)
    parser.add_argument("--shape", type=int, nargs=2, default=(8, 8))
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--transforms", nargs="+", default=["projection", "spline"])
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.cpu_time:
        loop.time = SimpleNamespace(perf_counter=time.process_time)
    for transform in arguments.transforms:
        for seed in arguments.seeds:
            print(measure(transform, tuple(arguments.shape), arguments.beta, arguments.seconds, seed), flush=True)


if __name__ == "__main__":
    main()
