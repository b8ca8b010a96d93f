"""The multiscale flow: configurations a second, and steps of training a second on one thread and on two.

    python tests/benchmarks/bench_multiscale.py [--shape 16 16] [--beta 6] [--pairs 7]

Medians over `pairs` repetitions, with the range. "plaquettes" makes them with their weights, "links" whole
configurations. Threads are set in processes of their own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

BATCH = 512


def _rate(count: int, call: Callable[[], object], repetitions: int) -> str:
    """`count` things per call, as a rate."""
    call()
    rates = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        rates.append(count / (time.perf_counter() - start))
    return f"{statistics.median(rates):10.0f}/s  ({min(rates):.0f} to {max(rates):.0f})"


def sampling(shape: tuple[int, int], beta: float, conditioner: str, repetitions: int) -> None:
    import torch

    from lattice_flows.flows import multiscale, reduced
    from lattice_flows.theories import WilsonU1

    action = WilsonU1(beta)
    flow = multiscale(shape, action, conditioner=conditioner)
    in_plaquettes = reduced(flow, action)
    generator = torch.Generator().manual_seed(1)

    def draw(pair) -> None:
        with torch.no_grad():
            for _ in range(8):
                x, log_q = pair[0].sample(BATCH, generator)
                pair[1](x) + log_q

    for name, pair in (("plaquettes", in_plaquettes), ("links", (flow, action))):
        print(f"  {conditioner:11}{name:11}{_rate(8 * BATCH, lambda pair=pair: draw(pair), repetitions)}", flush=True)


def training(shape: tuple[int, int], beta: float, conditioner: str, batch: int, repetitions: int) -> None:
    import torch

    from lattice_flows.flows import multiscale
    from lattice_flows.theories import WilsonU1
    from lattice_flows.training.objectives import REVERSE_OBJECTIVES

    action = WilsonU1(beta)
    flow = multiscale(shape, action, conditioner=conditioner)
    adam = torch.optim.Adam(flow.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(1)

    for name in ("reinforce", "path_gradient"):

        def steps(name: str = name) -> None:
            for _ in range(5):
                adam.zero_grad()
                REVERSE_OBJECTIVES[name](flow, action, batch, generator, torch.float64).loss.backward()
                adam.step()

        print(f"  {conditioner:11}{name:14} batch {batch:4}{_rate(5, steps, repetitions)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=2, default=(16, 16))
    parser.add_argument("--beta", type=float, default=6.0)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads is None:
        for threads in (1, 2):
            print(f"{threads} thread{'s' if threads > 1 else ''}", flush=True)
            counts = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads))
            subprocess.run(
                [sys.executable, *sys.argv, "--threads", str(threads)], env={**os.environ, **counts}, check=True
            )
        return
    import torch

    torch.set_num_threads(arguments.threads)
    shape, beta, n = tuple(arguments.shape), arguments.beta, arguments.pairs
    for conditioner in ("mlp", "structured", "exact"):
        sampling(shape, beta, conditioner, n)
    for conditioner, batch in (("mlp", 64), ("mlp", 512), ("structured", 512)):
        training(shape, beta, conditioner, batch, n)


if __name__ == "__main__":
    main()
