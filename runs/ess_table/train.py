"""Every flow of the table, three seeds of each: python runs/ess_table/train.py output/ess_table

A row and a seed are one process with one thread, and `--processes` of them run side by side: no more than there are
idle cores, for the seconds of a row are by the clock. What is finished is left alone and what was stopped goes on, so
the same command goes on after an interruption. Kernels are compiled, or read from their cache, before the clock starts.
"""

import argparse
import dataclasses
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from lattice_flows.card.build import build_flow
from lattice_flows.card.card import Card, read_card
from lattice_flows.exit_status import run_as_command
from lattice_flows.production.devices import network_threads, resolve_device, use_threads
from lattice_flows.stages import train_stage
from lattice_flows.training import CHECKPOINT_NAME, TrainingDiverged, train

CARD = Path(__file__).with_name("card.toml")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


class Row(NamedTuple):
    """What a row changes in the card, as TOML: whole tables, and keys of [training] beside its seconds."""

    theory: str
    flow: str
    seconds: float
    training: tuple[str, ...] = ()

    def overrides(self, seed: int) -> list[str]:
        """As `--set` takes them."""
        training = (f"max_seconds={self.seconds}", *self.training)
        tables = [f"seed={seed}", f"theory={self.theory}", f"flow={self.flow}"]
        return tables + [f"training.{change}" for change in training]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    os.environ.update(ONE_THREAD)  # of the processes to come
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, fresh, max_tasks_per_child=1) as pool:
        tasks = [(arguments.out, name, seed) for name in arguments.rows for seed in arguments.seeds]
        for line in pool.map(run, tasks):
            print(line, flush=True)


def run(task: tuple[Path, str, int]) -> str:
    """One row with one seed, trained and evaluated; what there is to say of it."""
    out, name, seed = task
    folder, overrides = out / name / f"seed{seed}", ROWS[name].overrides(seed)
    seconds = 0.0
    if not (folder / "flow" / CHECKPOINT_NAME).exists():
        seconds = compile_kernels(read_card(CARD, overrides))
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        train_stage(CARD, folder, overrides, Console(quiet=True))
    except TrainingDiverged as error:
        return f"{folder}: {error}"
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return f"{folder}: {seconds:.1f} s of compilation, then {wall:.1f} s, {cpu:.1f} s of them on the processor"


def compile_kernels(card: Card) -> float:
    """Train one step elsewhere, with a look at the flow, so that no training has to compile; the seconds it takes."""
    use_threads(network_threads())
    once = dataclasses.replace(card.training, max_steps=1, max_seconds=None)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        flow = build_flow(card, resolve_device(card.device))
        train(flow, card.theory.action, once, Path(folder), seed=card.seed, header={})
    return time.perf_counter() - start


def square(side: int, beta: float) -> str:
    """2D U(1) on a square."""
    return f"{{name = 'u1', shape = [{side}, {side}], beta = {beta}}}"


def improved(side: int, beta: float, c1: float) -> str:
    """2D U(1) with rectangles on a square."""
    return f"{{name = 'u1_improved', shape = [{side}, {side}], beta = {beta}, c1 = {c1}}}"


MLP, STRUCTURED, EXACT = (f"{{name = 'multiscale', conditioner = '{name}'}}" for name in ("mlp", "structured", "exact"))
HYBRID, COUPLING, CHECKERBOARD = (
    f"{{name = '{name}'}}" for name in ("hybrid", "plaquette_coupling", "checkerboard_coupling")
)
GRADIENT, LEADING, NEXT = (
    f"{{name = 'gradient_flow', coefficients = '{name}'}}" for name in ("learned", "leading", "next")
)
PHI4 = "{name = 'phi4', shape = [8, 8], m2 = -4.0, lam = 8.0}"

ROWS = {
    "exact_6x10_beta2": Row("{name = 'u1', shape = [6, 10], beta = 2.0}", EXACT, 1),
    "exact_16x16_beta20": Row(square(16, 20.0), EXACT, 1),
    "exact_64x64_beta6": Row(square(64, 6.0), EXACT, 1),
    "structured_8x8_beta6": Row(square(8, 6.0), STRUCTURED, 30),
    "structured_16x16_beta6": Row(square(16, 6.0), STRUCTURED, 30),
    "structured_16x16_beta7": Row(square(16, 7.0), STRUCTURED, 30),
    "structured_32x32_beta6": Row(square(32, 6.0), STRUCTURED, 60),
    "structured_64x64_beta6": Row(square(64, 6.0), STRUCTURED, 120),
    "mlp_8x8_beta2": Row(square(8, 2.0), MLP, 40),
    "mlp_8x8_beta6": Row(square(8, 6.0), MLP, 60),
    "mlp_16x16_beta3": Row(square(16, 3.0), MLP, 60),
    "mlp_16x16_beta6": Row(square(16, 6.0), MLP, 90),
    "mlp_16x16_beta7": Row(square(16, 7.0), MLP, 90),
    "mlp_32x32_beta6": Row(square(32, 6.0), MLP, 200),
    "hybrid_8x8_beta6": Row(improved(8, 6.0, 1 / 12), HYBRID, 150),
    "hybrid_16x16_beta6": Row(improved(16, 6.0, 1 / 12), HYBRID, 300),
    "hybrid_8x8_beta3": Row(improved(8, 3.0, -1 / 12), HYBRID, 60),
    "coupling_4x4_beta2": Row(square(4, 2.0), COUPLING, 60),
    "coupling_8x8_beta2": Row(square(8, 2.0), COUPLING, 200),
    "coupling_16x16_beta2": Row(square(16, 2.0), COUPLING, 300),
    "coupling_16x16_beta3": Row(square(16, 3.0), COUPLING, 600),
    "gradient_8x8_beta1": Row(square(8, 1.0), GRADIENT, 600),
    "gradient_8x8_beta3": Row(square(8, 3.0), GRADIENT, 600),
    "gradient_16x16_beta1": Row(square(16, 1.0), GRADIENT, 600),
    "gradient_leading_8x8_beta1": Row(square(8, 1.0), LEADING, 1),
    "gradient_next_8x8_beta1": Row(square(8, 1.0), NEXT, 1),
    "checkerboard_phi4_8x8": Row(PHI4, CHECKERBOARD, 100),
}

if __name__ == "__main__":
    run_as_command(main)
