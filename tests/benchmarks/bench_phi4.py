"""Updates of 2D phi^4 against each other: python tests/benchmarks/bench_phi4.py

One thread. Nanoseconds per site of one update at 64x64; then, at 32x32 and lam = 8, the m2 of a coarse scan where
V (<M^2> - <|M|>^2) peaks, and there tau_int of M^2 times the seconds of an update and chain: the figure that counts.
"""

import time
from collections.abc import Callable

import numba
import numpy as np

from lattice_flows.kernels.random import make_streams, normals
from lattice_flows.samplers import HMC
from lattice_flows.samplers.fourier_hmc import FourierHMC
from lattice_flows.statistics import gamma_method
from lattice_flows.theories.phi4.action import Phi4
from lattice_flows.theories.phi4.kernels.cluster import cluster
from lattice_flows.theories.phi4.kernels.local import heatbath, metropolis, overrelaxation

LAM, N_CHAINS, SECONDS = 8.0, 8, 5.0
SCAN = np.arange(-7.0, -4.4, 0.25)

Update = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def start(size: int, n_chains: int, m2: float) -> tuple[np.ndarray, np.ndarray]:
    """Chains after 300 heat-bath sweeps with clusters between."""
    noise, streams = normals(make_streams(1, "bench", range(n_chains)), size * size)
    phi = noise.reshape(n_chains, size, size)
    for _ in range(30):
        phi, streams = heatbath(phi, streams, 1.0, 4.0 + m2, LAM, 10)
        phi, streams, _ = cluster(phi, streams, 1.0, 4.0 + m2, LAM, 10)
    return phi, streams


def of_sampler(sampler: HMC | FourierHMC) -> Update:
    def update(phi: np.ndarray, streams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state, _ = sampler.step(sampler.init(phi, streams))
        return state.x, state.streams

    return update


def updates(m2: float) -> dict[str, Update]:
    couplings = (1.0, 4.0 + m2, LAM)

    def overrelaxed(phi: np.ndarray, streams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        phi, streams, _ = overrelaxation(phi, streams, *couplings, 3)
        return heatbath(phi, streams, *couplings, 1)

    def with_clusters(phi: np.ndarray, streams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        phi, streams, _ = cluster(phi, streams, *couplings, 5)
        return heatbath(phi, streams, *couplings, 1)

    return {
        "metropolis": lambda phi, streams: metropolis(phi, streams, *couplings, 0.8, 1)[:2],
        "heatbath": lambda phi, streams: heatbath(phi, streams, *couplings, 1),
        "overrelaxation": lambda phi, streams: overrelaxation(phi, streams, *couplings, 1)[:2],
        "cluster": lambda phi, streams: cluster(phi, streams, *couplings, 1)[:2],
        "3 overrelaxations + heatbath": overrelaxed,
        "5 clusters + heatbath": with_clusters,
        "HMC, length 1, 12 steps": of_sampler(HMC(Phi4(m2, LAM), 1.0, 12)),
        "Fourier HMC, 0.1, 16 steps": of_sampler(FourierHMC(Phi4(m2, LAM), 0.1, n_md_steps=16)),
    }


def seconds_per_update(update: Update, phi: np.ndarray, streams: np.ndarray, n: int = 20) -> float:
    """Of one chain, the best of three repetitions."""
    best = np.inf
    for _ in range(3):
        begin = time.perf_counter()
        for _ in range(n):
            phi, streams = update(phi, streams)
        best = min(best, (time.perf_counter() - begin) / (n * len(phi)))
    return best


def susceptibility(m2: float) -> float:
    phi, streams = start(32, N_CHAINS, m2)
    update, magnetisation = updates(m2)["5 clusters + heatbath"], []
    for _ in range(300):
        phi, streams = update(phi, streams)
        magnetisation.append(phi.mean(axis=(1, 2)))
    m = np.abs(np.stack(magnetisation))
    return float(1024 * (np.mean(m**2) - np.mean(m) ** 2))


def main() -> None:
    numba.set_num_threads(1)
    phi, streams = start(64, 4, -5.5)
    print("ns per site of one update, 64x64, m2 = -5.5:")
    for name, update in updates(-5.5).items():
        update(phi, streams)
        print(f"  {name:30} {1e9 * seconds_per_update(update, phi, streams) / 4096:8.2f}")

    found = {m2: susceptibility(m2) for m2 in SCAN}
    m2 = max(found, key=found.__getitem__)
    print(f"32x32, lam = {LAM:g}: the susceptibility peaks at m2 = {m2:.2f} with {found[m2]:.2f}")
    begin = start(32, N_CHAINS, m2)
    for name, update in updates(m2).items():
        if name in ("overrelaxation", "cluster"):  # not ergodic alone
            continue
        cost = seconds_per_update(update, *begin, n=5)
        phi, streams = begin
        series = []
        for _ in range(int(SECONDS / (cost * N_CHAINS))):
            phi, streams = update(phi, streams)
            series.append(phi.mean(axis=(1, 2)) ** 2)
        estimate = gamma_method(np.stack(series))
        print(
            f"  {name:30} <M^2> {estimate.value:.5f}({estimate.error:.5f})  tau_int {estimate.tau_int:7.2f}"
            f"  {1e6 * cost:7.1f} us  tau_int x time {1e3 * estimate.tau_int * cost:7.3f} ms"
        )


if __name__ == "__main__":
    main()
