"""The gradient's variance of every objective on the same flow, and what a step costs.

    python tests/benchmarks/bench_objectives.py [--shape 8 8] [--beta 2] [--seconds 30] [--batch-size 64] [--repeats 40]

The flow is trained for some seconds by path gradients, then left alone. Prints, for each objective, |E g| and the
standard deviation sqrt(E|g - E g|^2) of the gradient g of one batch, their ratio (of which |E g| is freed from noise by
the halves of the batches), and the milliseconds of processor time that one gradient takes. A batch of dreg has as many
samples as the others, in groups.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numba
import torch
from torch import Tensor

from lattice_flows.flows import Flow, initialise, plaquette_coupling
from lattice_flows.production.training_data import DirectData
from lattice_flows.theories import WilsonU1
from lattice_flows.training import OBJECTIVES, Objective, TrainingSettings, build_objective, train

DTYPE = torch.float32


def trained_flow(action: WilsonU1, shape: tuple[int, int], seconds: float) -> Flow:
    flow = plaquette_coupling(shape)
    initialise(flow, torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as folder:
        train(flow, action, TrainingSettings(max_seconds=seconds), Path(folder), seed=1, header={})
    return flow


def gradients(objective: Objective, flow: Flow, action: WilsonU1, n: int, repeats: int) -> Tensor:
    """(repeats, n_parameters), of independent batches; a buffer is filled before."""
    generator = torch.Generator().manual_seed(2)
    rows = []
    for repeat in range(repeats + 5):
        flow.zero_grad(set_to_none=False)
        objective(flow, action, n, generator, DTYPE).loss.backward()
        if repeat >= 5:
            rows.append(torch.cat([w.grad.flatten().double() for w in flow.parameters() if w.grad is not None]))
    return torch.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=2, default=(8, 8))
    parser.add_argument("--beta", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    shape, action = tuple(arguments.shape), WilsonU1(arguments.beta)
    flow = trained_flow(action, shape, arguments.seconds)
    direct = action.direct_sampler()
    assert direct is not None
    data = DirectData(direct, (2, *shape))
    for name in OBJECTIVES:
        source = "direct" if name in ("forward_kl", "mixture", "log_variance") else None
        settings = TrainingSettings(objective=name, data=source)
        objective = build_objective(settings, flow, data, DTYPE, torch.device("cpu"))
        start = time.process_time()
        n = arguments.batch_size // settings.samples_per_row
        g = gradients(objective, flow, action, n, arguments.repeats)
        cost = (time.process_time() - start) / (arguments.repeats + 5)
        variance = float(g.var(0).sum())
        signal = float(g[::2].mean(0) @ g[1::2].mean(0))  # of independent halves: without the noise's share
        mean, deviation = max(signal, 0.0) ** 0.5, variance**0.5
        ratio = mean / deviation
        print(
            f"{name:16} |E g| {mean:8.3f}, deviation {deviation:8.3f}, ratio {ratio:.3f}, {1e3 * cost:.0f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
