"""The Gamma method against pyerrors on the same series, one thread: python tests/benchmarks/bench_gamma.py

20 replicas of AR(1) with tau_int = 5, of 100,000 and of 1,000,000 values, with the automatic window and with a tail
(tau_exp). Every figure must agree to 1e-10. CPU time of the one thread, medians of alternating repetitions, and ratios
pair by pair. Both take the replicas as they are in memory; that pyerrors builds an Obs of them first is not counted.
pyerrors goes over all lags even for the automatic window; a tail needs them all. Goals, at full size: < 2 s, and
>= 5 x as fast as pyerrors with the automatic window.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy is imported

import resource
import time
import warnings
from collections.abc import Callable

import numpy as np
from scipy.signal import lfilter

from lattice_flows.statistics import Estimate, gamma_method

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports scipy.odr, which is deprecated
    import pyerrors

N_REPLICAS, A = 20, 9 / 11  # tau_int = 1/2 + a / (1 - a) = 5
TAU_EXP = 5.0
SIZES = {100_000: 9, 1_000_000: 5}  # values in a replica: repetitions
RULES = {
    "automatic": ({"s_tau": 1.5}, {"S": 1.5}),
    "tail": ({"tau_exp": TAU_EXP, "n_sigma": 1.0}, {"tau_exp": TAU_EXP, "N_sigma": 1.0}),
}


def ar1_replicas(n: int, rng: np.random.Generator) -> list[np.ndarray]:
    noise = rng.normal(size=(N_REPLICAS, n)) * np.sqrt(1 - A**2)
    noise[:, 0] /= np.sqrt(1 - A**2)
    return list(lfilter([1.0], [1.0, -A], noise, axis=1))


def timed(function: Callable[[], Estimate | None]) -> tuple[float, Estimate | None]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def check(estimate: Estimate, obs: pyerrors.Obs) -> float:
    """The largest deviation of value (in errors), error, tau_int and its error (relative); windows are equal."""
    assert estimate.window == obs.e_windowsize["e"]
    relative = [
        estimate.error / obs.dvalue - 1,
        estimate.tau_int / obs.e_tauint["e"] - 1,
        estimate.tau_int_error / obs.e_dtauint["e"] - 1,
        (estimate.value - obs.value) / obs.dvalue,
    ]
    deviation = float(np.abs(relative).max())
    assert deviation < 1e-10, relative
    return deviation


def main() -> None:
    rng = np.random.default_rng(20240601)
    for n, repetitions in SIZES.items():
        replicas = ar1_replicas(n, rng)
        obs = pyerrors.Obs(replicas, [f"e|{i:03d}" for i in range(N_REPLICAS)])
        for rule, (ours, theirs) in RULES.items():
            seconds = []
            for _ in range(repetitions):
                reference, _ = timed(lambda: obs.gamma_method(**theirs))  # noqa: B023
                own, estimate = timed(lambda: gamma_method(replicas, **ours))  # noqa: B023
                seconds.append((own, reference))
            deviation = check(estimate, obs)
            own, reference = np.median(seconds, axis=0)
            low, middle, high = np.quantile([r / s for s, r in seconds], [0, 0.5, 1])
            print(
                f"{N_REPLICAS} x {n:9,} {rule:9}: {own:6.3f} s, pyerrors {reference:6.2f} s, "
                f"{middle:5.1f} x as fast ({low:.1f} to {high:.1f}); tau_int = {estimate.tau_int:.3f}, "
                f"window {estimate.window}, largest deviation {deviation:.1e}"
            )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
