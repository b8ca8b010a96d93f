"""One set of weights for phi^4 at m2 = -4 and any lam in [4, 6]: family.py output/flow_catalogue [--seconds 1800]

Trains a continuous flow whose coefficients are polynomials in lam (arXiv:2207.00283) at pairs of couplings around the
middle of the range, and then prints and writes OUT/family.csv: ESS of fresh samples in double precision at seven
values, and the change of log w by twice as many steps. One thread; `--seconds` are the processor's. Each look at the
training is kept in OUT/family.pt, from which the same command goes on.
"""

import argparse
import csv
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from lattice_flows.exit_status import run_as_command
from lattice_flows.flows import Flow, composed, integrated_parts, refine
from lattice_flows.flows.transforms.lattice_velocity import LatticeVelocity
from lattice_flows.statistics import effective_sample_size
from lattice_flows.terminal.progress import meter
from lattice_flows.theories import Phi4
from lattice_flows.training import evaluate, path_gradient

LOW, HIGH, M2 = 4.0, 6.0, -4.0
BATCH, LEARNING_RATE, LARGEST_GRADIENT, MEMORY = 32, 0.02, 10.0, 0.99  # of samples, Adam, and the averaged weights
STEP_ERROR = 0.1  # of log w in the training
LOOK_EVERY = 100  # steps
N_SAMPLES = 8192


class Row(NamedTuple):
    """What the weights reach at one coupling."""

    lam: float
    ess: float
    ess_error: float
    n_steps: int
    step_error: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=1800.0, help="of the processor, for the training")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    family = Family(given.side)
    family.train(given.seconds, given.out / "family.pt")
    rows = []
    for k in range(7):
        rows.append(family.measured(LOW + (HIGH - LOW) * k / 6))
        print(" ".join(f"{key} {value:.4g}" for key, value in rows[-1]._asdict().items()), flush=True)
    with (given.out / "family.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([Row._fields, *([f"{value:.4g}" for value in row] for row in rows)])


class Family:
    """The flow, Adam, and the averaged weights, which are those that count."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.flow = self.at(0.5 * (LOW + HIGH))
        self.parameters = list(self.flow.parameters())
        self.average = [weight.detach().clone() for weight in self.parameters]
        self.adam = torch.optim.Adam(self.parameters, lr=LEARNING_RATE, betas=(0.9, 0.99))
        self.generator = torch.Generator().manual_seed(1)
        self.step, self.seconds = 0, 0.0

    def at(self, lam: float) -> Flow:
        """The flow of one theory, with fresh weights."""
        table = {"name": "continuous_lattice", "lam_range": (LOW, HIGH)}
        return composed((self.side, self.side), Phi4(M2, lam), transforms=(table,))

    def train(self, seconds: float, kept: Path) -> None:
        """Steps until there were so many seconds, from what was kept before."""
        if kept.exists():
            self.restore(torch.load(kept, weights_only=True))
        start = time.process_time() - self.seconds
        with meter(Console(), "family", seconds, "s") as shown:
            while self.seconds < seconds:
                variance = self.advance(self.seconds / seconds)
                self.seconds = time.process_time() - start
                if self.step % LOOK_EVERY == 0 or self.seconds >= seconds:
                    self.look()
                    torch.save(self.state(), kept)
                shown.update(min(self.seconds, seconds), f"variance of log w {variance:.3g}")
        with torch.no_grad():
            for weight, average in zip(self.parameters, self.average):
                weight.copy_(average)

    def advance(self, progress: float) -> float:
        """One step at two couplings on either side of the middle; the larger variance of log w."""
        for group in self.adam.param_groups:
            group["lr"] = LEARNING_RATE * min(progress / 0.03, 1.0) * 0.5 * (1.0 + math.cos(math.pi * progress))
        self.adam.zero_grad()
        place = float(torch.rand((), generator=self.generator))  # from the middle to an end
        variances = []
        for self.velocity.coupling in (place, -place):
            action = Phi4(M2, 0.5 * (LOW + HIGH) + 0.5 * (HIGH - LOW) * self.velocity.coupling)
            estimate = path_gradient(self.flow, action, BATCH, self.generator, torch.float32)
            (0.5 * estimate.loss).backward()  # type: ignore[no-untyped-call]
            variances.append(float(estimate.log_w.var()))
        torch.nn.utils.clip_grad_norm_(self.parameters, LARGEST_GRADIENT)
        self.adam.step()
        self.step += 1
        for average, weight in zip(self.average, self.parameters):
            average.lerp_(weight.detach(), 1.0 - min(MEMORY, self.step / (self.step + 10.0)))
        return max(variances)

    def look(self) -> None:
        """Let the training take as many steps of the solver as the strongest change of the field asks for."""
        self.velocity.coupling = -1.0
        z = self.flow.prior.sample(BATCH, torch.Generator().manual_seed(self.step), torch.float64)
        refine(self.flow, Phi4(M2, LOW), z, STEP_ERROR)

    def measured(self, lam: float) -> Row:
        """The averaged weights at one coupling."""
        flow, action, generator = self.at(lam), Phi4(M2, lam), torch.Generator().manual_seed(2)
        flow.load_state_dict(self.flow.state_dict())
        step_error = refine(flow, action, flow.prior.sample(256, generator))
        ess = effective_sample_size(evaluate(flow, action, N_SAMPLES, generator))
        return Row(lam, ess.value, ess.error, integrated_parts(flow)[0].n_steps, step_error)

    @property
    def velocity(self) -> LatticeVelocity:
        """That of the one transform, whose `coupling` says which theory it is for."""
        (part,) = integrated_parts(self.flow)
        return part.velocity  # type: ignore[attr-defined, no-any-return]

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {
            "flow": self.flow.state_dict(),
            "average": self.average,
            "adam": self.adam.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.flow.load_state_dict(state["flow"])
        self.adam.load_state_dict(state["adam"])
        self.generator.set_state(state["generator"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]


if __name__ == "__main__":
    run_as_command(main)
