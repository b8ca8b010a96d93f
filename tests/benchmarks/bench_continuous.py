"""Continuous flows to phi^4 at m2 = -4 with a correlation length of a quarter of the side: seconds and ESS.

    python tests/benchmarks/bench_continuous.py [--side 6] [--max-seconds 30] [--batch-size 64] [--seed 1] [--samples N]

The sides are 6 and 12. Prints the weights, the steps of the training, its seconds, the processor's among them, and of
fresh samples in double precision the ESS, the steps of the solver with the step error of log w, and log Z.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from lattice_flows.flows import composed, integrated_parts, refine
from lattice_flows.statistics import effective_sample_size, log_partition
from lattice_flows.theories import Phi4
from lattice_flows.training import TrainingSettings, evaluate, train

LAM = {6: 6.975, 12: 5.276}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, choices=LAM, default=6)
    parser.add_argument("--max-seconds", type=float, default=30.0)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, default=8192)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    action = Phi4(-4.0, LAM[arguments.side])
    flow = composed((arguments.side,) * 2, action, transforms=("continuous_lattice",))
    settings = TrainingSettings(
        max_seconds=arguments.max_seconds,
        batch_size=arguments.batch_size,
        learning_rate=0.03,
        warmup=0.05,
        adam_beta2=0.99,
        monitor_every=400,
        monitor_samples=512,
    )
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = train(flow, action, settings, Path(folder), seed=arguments.seed, header={})
    seconds = time.process_time() - start
    generator = torch.Generator().manual_seed(arguments.seed)
    error = refine(flow, action, flow.prior.sample(256, generator))
    log_w = evaluate(flow, action, arguments.samples, generator)
    ess, log_z = effective_sample_size(log_w), log_partition(log_w)
    (part,) = integrated_parts(flow)
    n_weights = sum(weight.numel() for weight in flow.parameters())
    print(f"{n_weights} weights, {result.step} steps in {result.train_seconds:.1f} s, {seconds:.1f} s of a core")
    print(f"ESS {ess.value:.4f} +- {ess.error:.4f} in {part.n_steps} steps, which change log w by {error:.1e}")
    print(f"log Z {log_z.value:.4f} +- {log_z.error:.4f}")


if __name__ == "__main__":
    main()
