"""Updates of the 2D Ising model: python tests/benchmarks/bench_ising.py

At the critical point, one chain on one thread, by the clock of the processor: nanoseconds a spin of a sweep and
microseconds of a cluster update, medians of alternating repetitions, beside the plain C of ising.c in the same run.
Then, at 32x32, tau_int of M^2 times the time of an update: the figure that counts.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import Cluster, HeatBath, Metropolis, Sampler, SwendsenWang
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import Ising
from lattice_flows.theories.ising.closed_forms import CRITICAL_BETA

REPETITIONS, SECONDS = 7, 0.2
ACTION = Ising(CRITICAL_BETA)
SAMPLERS: dict[str, Sampler] = {
    "metropolis": Metropolis(ACTION),
    "heatbath": HeatBath(ACTION),
    "wolff": Cluster(ACTION),
    "swendsen_wang": SwendsenWang(ACTION),
}


def nanoseconds(run: Callable[[int], object]) -> float:
    """Of one of the n things that run(n) does, over about SECONDS."""
    n = 1
    while True:
        start = time.process_time()
        run(n)
        seconds = time.process_time() - start
        if seconds > 0.5 * SECONDS:
            return 1e9 * seconds / n
        n = max(2 * n, int(n * SECONDS / (seconds + 1e-9)) if seconds > 1e-3 else 2 * n)


def yardstick(binary: Path, size: int) -> dict[str, float]:
    """Nanoseconds a spin of the sweeps, and of a cluster."""
    words = [str(binary), str(CRITICAL_BETA), str(20_000_000 // size**2), str(4_000_000 // size**2)]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines}


def against_c(folder: Path, size: int) -> None:
    binary, source = folder / f"ising_{size}", Path(__file__).with_name("ising.c")
    subprocess.run(["gcc", "-O3", "-march=native", f"-DL={size}", str(source), "-o", str(binary), "-lm"], check=True)
    x, streams = ACTION.hot(make_streams(1, "bench", range(1)), (size, size))
    state, _ = SAMPLERS["swendsen_wang"].step(SAMPLERS["swendsen_wang"].init(x, streams), 300)
    ours: dict[str, list[float]] = {name: [] for name in SAMPLERS}
    theirs: dict[str, list[float]] = {name: [] for name in SAMPLERS}
    for _ in range(REPETITIONS):
        c = yardstick(binary, size)
        for name, sampler in SAMPLERS.items():
            ours[name].append(nanoseconds(lambda n: sampler.step(state, n)))  # noqa: B023
            if name in c:
                theirs[name].append(c[name])
    for name in SAMPLERS:
        found = np.median(ours[name])
        if name in ("metropolis", "heatbath"):
            text = f"{found / size**2:8.2f} ns a spin, C {np.median(theirs[name]):6.2f}"
        else:
            of_c = f", C {1e-3 * np.median(theirs[name]):6.1f}" if theirs[name] else ""
            text = f"{1e-3 * found:8.1f} us{of_c}"
        print(f"  {size}x{size} {name:14} {text}")


def cost(name: str, n_configs: int, size: int = 32) -> None:
    sampler, n_chains = SAMPLERS[name], 8
    state = sampler.init(*ACTION.hot(make_streams(1, "bench", range(n_chains)), (size, size)))
    state, _ = sampler.step(state, 2000)
    series = []
    for _ in range(n_configs):
        state, _ = sampler.step(state)
        series.append(state.x.mean(axis=(1, 2)) ** 2)
    per_update = 1e-9 * nanoseconds(lambda n: sampler.step(state, n)) / n_chains
    tau_int = gamma_method(np.stack(series)).tau_int
    print(f"  {name:14} tau_int {tau_int:7.1f}, x {1e6 * per_update:7.2f} us = {1e6 * tau_int * per_update:8.1f} us")


def main() -> None:
    numba.set_num_threads(1)
    print(f"beta_c, medians of {REPETITIONS}, one thread")
    with tempfile.TemporaryDirectory() as name:
        for size in (64, 256):
            against_c(Path(name), size)
    print("32x32, M^2")
    for name, n_configs in (("metropolis", 40_000), ("heatbath", 40_000), ("wolff", 20_000), ("swendsen_wang", 10_000)):
        cost(name, n_configs)


if __name__ == "__main__":
    main()
