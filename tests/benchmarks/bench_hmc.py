"""HMC against the plain C yardstick hmc_u1.c, in the same run: python tests/benchmarks/bench_hmc.py

One chain on one thread; the kernel called for 10 and for 1000 trajectories at a time, and `lattice-flows sample` as a
user runs it (n_updates = 10, all standard series, store_fields = false). Medians of alternating repetitions, and ratios
to C pair by pair. Then 16 chains on one and on two threads, and what each integrator costs at equal acceptance.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import numpy as np

from lattice_flows.ensembles import Ensemble
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC
from lattice_flows.samplers.integrators import INTEGRATORS
from lattice_flows.theories import WilsonU1, sample_u1

BETA, REPETITIONS = 2.0, 7
SIZES = {8: (10, 60_000), 16: (10, 20_000), 64: (20, 800)}  # L: leapfrog steps, trajectories per repetition

CARD = """
[theory]
name = "u1"
shape = [{size}, {size}]
beta = {beta}
[[ensemble]]
name = "hmc"
sampler = "hmc"
n_chains = 1
n_configs = {n_configs}
n_updates = 10
n_md_steps = {n_md_steps}
store_fields = false
"""


def compiled_yardstick(folder: Path, size: int) -> Path:
    binary = folder / f"hmc_{size}"
    source = Path(__file__).with_name("hmc_u1.c")
    flags = ["-O3", "-march=native", "-ffast-math", f"-DLL={size}"]
    subprocess.run(["gcc", *flags, str(source), "-o", str(binary), "-lmvec", "-lm"], check=True)
    return binary


def yardstick_rate(binary: Path, n_md_steps: int, n: int) -> float:
    words = subprocess.run(
        [str(binary), str(BETA), str(n_md_steps), str(n)], capture_output=True, text=True, check=True
    ).stdout.split()
    return float(words[words.index("traj/s") + 1])


def kernel_rate(size: int, n_md_steps: int, n: int, at_once: int, n_chains: int = 1) -> float:
    sampler = HMC(WilsonU1(BETA), 1.0, n_md_steps)
    state = sampler.init(*sample_u1(BETA, size, size, make_streams(1, "bench", range(n_chains))))
    state, _ = sampler.step(state, at_once)
    start = time.perf_counter()
    for _ in range(n // at_once):
        state, _ = sampler.step(state, at_once)
    return (n // at_once) * at_once * n_chains / (time.perf_counter() - start)


def command_rate(folder: Path, size: int, n_md_steps: int, n: int, repetition: int) -> float:
    card, out = folder / "card.toml", folder / f"run_{size}_{repetition}"
    card.write_text(CARD.format(size=size, beta=BETA, n_md_steps=n_md_steps, n_configs=n // 10))
    command = [sys.executable, "-m", "lattice_flows.cli", "sample", str(card), "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with Ensemble.open(out / "ensembles" / "hmc.h5") as ensemble:
        return ensemble.n_configs * 10 / ensemble.seconds


def print_integrators(size: int = 16, beta: float = 6.0, acceptance: float = 0.8) -> None:
    """The cheapest trajectory of length 1 that reaches the acceptance, for each integrator, on one thread.

    Trajectories of equal length and acceptance decorrelate alike: their costs compare the integrators.
    """
    print(f"{size}x{size}, beta = {beta}, trajectories of length 1 accepted with {acceptance} or more:")
    x, streams = sample_u1(beta, size, size, make_streams(1, "bench", range(50)))
    for name, integrator in INTEGRATORS.items():
        for n_md_steps in range(1, 100):
            sampler = HMC(WilsonU1(beta), 1.0, n_md_steps, integrator=name)
            start = time.perf_counter()
            _, info = sampler.step(sampler.init(x, streams), 100)
            seconds = (time.perf_counter() - start) / (100 * len(x))
            if info.accepted.mean() >= acceptance:
                break
        forces, accepted = n_md_steps * len(integrator.kicks), info.accepted.mean()
        cost = f"{1e6 * seconds:.1f} us, {1e6 * seconds / accepted:.1f} us an accepted one"
        print(f"  {name:10} {n_md_steps:2} steps, {forces:2} forces, accepted {accepted:.2f}, {cost}")


def main() -> None:
    numba.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size, (n_md_steps, n) in SIZES.items():
            binary = compiled_yardstick(folder, size)
            ways = {
                "numba, 10 a call": lambda r: kernel_rate(size, n_md_steps, n, 10),  # noqa: B023
                "numba, 1000 a call": lambda r: kernel_rate(size, n_md_steps, max(n, 1000), 1000),  # noqa: B023
                "lattice-flows sample": lambda r: command_rate(folder, size, n_md_steps, n, r),  # noqa: B023
            }
            rates = {way: [] for way in ways}
            ratios = {way: [] for way in ways}
            yardstick = []
            for repetition in range(REPETITIONS):
                for way, measure in ways.items():
                    c = yardstick_rate(binary, n_md_steps, n)
                    yardstick.append(c)
                    rates[way].append(measure(repetition))
                    ratios[way].append(rates[way][-1] / c)
            print(f"{size}x{size}, {n_md_steps} steps: C {statistics.median(yardstick):.0f} trajectories/s")
            for way in ways:
                low, middle, high = np.quantile(ratios[way], [0, 0.5, 1])
                print(f"  {way:22} {statistics.median(rates[way]):9.0f}/s, {middle:.2f} of C ({low:.2f} to {high:.2f})")
        if numba.config.NUMBA_NUM_THREADS > 1:
            speedups = []
            for _ in range(REPETITIONS):
                numba.set_num_threads(1)
                one = kernel_rate(16, 10, 2000, 100, 16)
                numba.set_num_threads(2)
                speedups.append(kernel_rate(16, 10, 2000, 100, 16) / one)
            print(f"16 chains, 16x16: two threads are {statistics.median(speedups):.2f} x one")
    numba.set_num_threads(1)
    print_integrators()


if __name__ == "__main__":
    main()
