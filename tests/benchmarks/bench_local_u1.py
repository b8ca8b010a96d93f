"""Local updates, the instanton hop and the direct sampler of 2D U(1): python tests/benchmarks/bench_local_u1.py

Nanoseconds a link at 64x64 and 8x8, beta = 2, one chain on one thread, beside the plain C of local_u1.c in the same
run: medians of alternating repetitions, and ratios pair by pair. Then what the random numbers of a heat bath cost, and
hops and independent configurations a second.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from numba import njit

from lattice_flows.kernels.random import fill_uniforms, make_streams
from lattice_flows.kernels.von_mises import fill_von_mises
from lattice_flows.theories import sample_u1
from lattice_flows.theories.u1.kernels.instanton import instanton
from lattice_flows.theories.u1.kernels.local import heatbath, metropolis, overrelaxation

BETA, WIDTH, REPETITIONS, SECONDS = 2.0, 1.5, 7, 0.2
Timed = Callable[[int], object]


def nanoseconds(run: Timed, per_round: int) -> float:
    """Of one of the `per_round` things that each round of run(n_rounds) does, over about SECONDS."""
    n = 1
    while True:
        start = time.perf_counter()
        run(n)
        seconds = time.perf_counter() - start
        if seconds > 0.5 * SECONDS:
            return 1e9 * seconds / (n * per_round)
        n = max(2 * n, int(n * SECONDS / (seconds + 1e-9)) if seconds > 1e-3 else 2 * n)


def updates(size: int) -> dict[str, Timed]:
    x, streams = sample_u1(BETA, size, size, make_streams(1, "bench", range(1)))
    return {
        "overrelaxation": lambda n: overrelaxation(x, n),
        "metropolis": lambda n: metropolis(x, streams, BETA, WIDTH, n),
        "heatbath": lambda n: heatbath(x, streams, BETA, n),
    }


def compiled_yardstick(folder: Path, size: int) -> Path:
    binary, source = folder / f"local_{size}", Path(__file__).with_name("local_u1.c")
    flags = ["-O3", "-march=native", "-ffast-math", f"-DLL={size}"]
    subprocess.run(["gcc", *flags, str(source), "-o", str(binary), "-lm"], check=True)
    return binary


def yardstick(binary: Path, size: int) -> dict[str, float]:
    n_sweeps = 1_000_000 // (size * size)
    words = [str(binary), str(BETA), str(WIDTH), str(n_sweeps)]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines}


def against_c(folder: Path, size: int) -> None:
    binary, ways = compiled_yardstick(folder, size), updates(size)
    ours, theirs = {name: [] for name in ways}, {name: [] for name in ways}
    for _ in range(REPETITIONS):
        c = yardstick(binary, size)
        for name, run in ways.items():
            ours[name].append(nanoseconds(run, 2 * size * size))
            theirs[name].append(c[name])
    for name in ways:
        low, middle, high = np.quantile(np.divide(ours[name], theirs[name]), [0, 0.5, 1])
        times = (
            f"{np.median(ours[name]):6.2f} ns a link (best {min(ours[name]):.2f}), C {np.median(theirs[name]):6.1f} ns"
        )
        print(f"  {size}x{size} {name:14} {times}, {middle:.2f} of C ({low:.2f} to {high:.2f})")


@njit
def _deviates(kappa: np.ndarray, stream: np.ndarray, n: int) -> None:
    out, scratch, pending = np.empty(kappa.size), np.empty(3 * kappa.size), np.empty(kappa.size, np.int64)
    for _ in range(n):
        fill_von_mises(kappa, stream, out, scratch, pending)


@njit
def _uniforms(out: np.ndarray, stream: np.ndarray, n: int) -> None:
    for _ in range(n):
        fill_uniforms(stream, out)


def deviates() -> None:
    """What a heat bath is made of: concentrations spread as in equilibrium, in arrays as long as a class."""
    stream = make_streams(1, "bench", range(1))[0]
    for length in (32, 2048):
        kappa = 2 * BETA * np.abs(np.cos(np.random.default_rng(1).normal(0, 0.6, length)))
        times = [nanoseconds(lambda n: _deviates(kappa, stream, n), length) for _ in range(REPETITIONS)]  # noqa: B023
        plain = [nanoseconds(lambda n: _uniforms(kappa.copy(), stream, n), length) for _ in range(REPETITIONS)]  # noqa: B023
        print(f"  {length:5} at once: von Mises {np.median(times):.1f} ns, uniform {np.median(plain):.2f} ns")


def rates() -> None:
    for size in (8, 64):
        x, streams = sample_u1(BETA, size, size, make_streams(1, "bench", range(1)))
        for at_once in (1, 1000):
            times = [
                nanoseconds(lambda n: [instanton(x, streams, BETA, 0.0, at_once) for _ in range(n)], at_once)  # noqa: B023
                for _ in range(REPETITIONS)
            ]
            print(f"  {size}x{size} instanton, {at_once} a call: {1e9 / np.median(times):.0f} hops/s")
    for size, beta in ((8, 2.0), (16, 7.0)):
        streams = make_streams(1, "bench", range(200))
        times = [
            nanoseconds(lambda n: [sample_u1(beta, size, size, streams) for _ in range(n)], 200)  # noqa: B023
            for _ in range(REPETITIONS)
        ]
        print(f"  {size}x{size} beta {beta:g} direct: {1e9 / np.median(times):.0f} configurations/s")


def main() -> None:
    numba.set_num_threads(1)
    print(f"medians of {REPETITIONS}, one thread")
    with tempfile.TemporaryDirectory() as name:
        for size in (64, 8):
            against_c(Path(name), size)
    deviates()
    rates()


if __name__ == "__main__":
    main()
