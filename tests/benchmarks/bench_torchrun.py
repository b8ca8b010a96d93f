"""Training of a 16x16 flow by one process and by two that gloo connects, at one global batch, in turn.

    python tests/benchmarks/bench_torchrun.py [--repeats 5] [--steps 60] [--batch-size 64] [--shape 16 16]

Prints samples per second (medians, with the range of the ratio) and how far the loss curves are apart, step by step.
Rates are of the training loop: no start of processes, no final evaluation; every process has one thread.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from lattice_flows.training import read_checkpoint, read_history

CARD = """
[theory]
name = "u1"
shape = {shape}
beta = 3.0
[flow]
name = "plaquette_coupling"
[training]
max_steps = {steps}
batch_size = {batch}
monitor_every = {every}
monitor_samples = 2
"""


def train(card: Path, out: Path, processes: int) -> None:
    """The command that a person would type; it stops where the training ends and leaves out the evaluation's rest."""
    command = [str(Path(sys.executable).with_name("lattice-flows")), "train", str(card), "--out", str(out)]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [*launcher, "--no-python", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--shape", type=int, nargs=2, default=(16, 16))
    arguments = parser.parse_args()
    rates: dict[int, list[float]] = {1: [], 2: []}
    losses: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        card = Path(folder) / "card.toml"
        text = CARD.format(
            shape=list(arguments.shape),
            steps=arguments.steps,
            batch=arguments.batch_size,
            every=max(1, arguments.steps // 6),
        )
        card.write_text(text, encoding="utf-8")
        for repeat in range(arguments.repeats):
            for processes in rates:
                out = Path(folder) / f"{repeat}-{processes}"
                train(card, out, processes)
                seconds = read_checkpoint(out / "flow" / "checkpoint.pt").train_seconds
                rates[processes].append(arguments.steps * arguments.batch_size / seconds)
                losses[processes] = [record.loss for record in read_history(out / "flow" / "history.csv")]
            print(f"1: {rates[1][-1]:.1f} samples/s, 2: {rates[2][-1]:.1f} samples/s", flush=True)
    ratios = [two / one for one, two in zip(rates[1], rates[2])]
    one, two = (statistics.median(rates[processes]) for processes in (1, 2))
    print(f"1 process {one:.1f} samples/s, 2 processes {two:.1f} samples/s (medians of {arguments.repeats})")
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    apart = [abs(a - b) for a, b in zip(losses[1], losses[2])]
    print("loss of 1:", *(f"{loss:.6f}" for loss in losses[1]))
    print("difference:", *(f"{difference:.1e}" for difference in apart))


if __name__ == "__main__":
    main()
