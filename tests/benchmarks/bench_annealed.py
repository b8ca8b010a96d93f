"""Annealing, populations and stochastic flows: python tests/benchmarks/bench_annealed.py [phi4 | u1 | smc ...]

ESS and log Z with its error, beside the closed form where there is one, and CPU milliseconds a sample on one thread:
phi^4 at m^2 = -4 on 12 x 12 and 20 x 20 (xi about L / 4) from free fields, U(1) at beta = 6 on 16 x 16 from beta = 1,
heat-bath sweeps as kernel. "smc": the same U(1) by populations of 64, with and without resampling. "flows":
stochastic flows of the phi^4 theory at 20 x 20 with 200 sweeps and 100 Wolff clusters, trained on 16 x 16 for 300
steps, and of the same U(1) with 50, 100 and 200 sweeps, trained on 8 x 8 for 200 steps. "flow_smc": populations of 64
through the second of these, and through its sweeps alone, with and without resampling. A quarter of an hour.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from lattice_flows.flows import CheckerboardFlow, FourierScalingFlow, PlaquetteMapFlow, Proposer
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import (
    SMC,
    Annealed,
    Cluster,
    FlowSMC,
    HeatBath,
    MarkovLayer,
    Sampler,
    StochasticFlowPlan,
    TransformLayer,
)
from lattice_flows.statistics import effective_sample_size, log_partition
from lattice_flows.statistics.populations import population_log_w
from lattice_flows.theories import Action, Phi4, WilsonU1
from lattice_flows.training import TrainingSettings, evaluate, train

torch.set_num_threads(1)
U1, SMALL, LARGE = WilsonU1(6.0), Phi4(-4.0, 5.276), Phi4(-4.0, 4.81)
SIDE = {U1: 16, SMALL: 12, LARGE: 20}
N_SAMPLES, N_CHAINS, N_PILOTS, N_PARTICLES = 4096, 256, 8, 64


def show(what: str, log_w: np.ndarray, milliseconds: float, action: Action, shape: tuple[int, ...]) -> None:
    ess, log_z, oracle = effective_sample_size(log_w), log_partition(log_w), action.closed_forms(shape)
    exact = "" if oracle is None else f", {(log_z.value - oracle.log_z) / log_z.error:+.1f} errors from exact"
    print(
        f"{what:48} ESS {ess.value:.3f}({ess.error:.3f}), log Z {log_z.value:.4f}({log_z.error:.4f}){exact}, "
        f"{milliseconds:.2f} ms a sample",
        flush=True,
    )


def tuned(sampler: Sampler, event: tuple[int, ...]) -> Sampler:
    return sampler.tune(sampler.init(np.zeros((N_PILOTS, *event)), make_streams(1, "pilots", range(N_PILOTS))), 256)


def sampled(sampler: Sampler, event: tuple[int, ...], n_chains: int, n: int) -> tuple[list, list, float]:
    """x and log w of n updates, and the milliseconds a sample; the first update is for the compiler."""
    state = sampler.init(np.zeros((n_chains, *event)), make_streams(2, "bench", range(n_chains)))
    state, _ = sampler.step(state)
    start, x, log_w = time.process_time(), [], []
    for _ in range(n):
        state, info = sampler.step(state)
        x.append(state.x)
        log_w.append(info.log_w)
    return x, log_w, 1e3 * (time.process_time() - start) / (n * n_chains)


def annealed(action: Action, initial: dict[str, float], shape: tuple[int, ...], steps: tuple[int, ...]) -> None:
    event = action.event_shape(shape)
    for n_steps in steps:
        for name, protocol in (("linear", (0.0, 1.0)), ("tuned", None)):
            sampler = tuned(Annealed(action, HeatBath, initial, n_steps, protocol), event)
            _, log_w, cost = sampled(sampler, event, N_CHAINS, N_SAMPLES // N_CHAINS)
            show(f"{action} from {initial}, {n_steps} {name}", np.concatenate(log_w), cost, action, shape)


def phi4() -> None:
    for m2 in (1 / 9, 0.3):
        annealed(SMALL, {"m2": m2, "lam": 0.0}, (12, 12), (200, 800))
    annealed(LARGE, {"m2": 0.15, "lam": 0.0}, (20, 20), (200, 800))


def u1() -> None:
    annealed(U1, {"beta": 1.0}, (16, 16), (200, 400, 800, 1600))


def smc() -> None:
    for n_steps in (20, 50, 200):
        for below in (0.0, 0.5):
            sampler = tuned(SMC(U1, HeatBath, {"beta": 1.0}, N_PARTICLES, n_steps, resample_below=below), (2, 16, 16))
            show_populations(sampler, f"{n_steps} steps, below {below}")


def show_populations(sampler: Sampler, what: str) -> None:
    _, log_w, cost = sampled(sampler, (2, 16, 16), N_PARTICLES, 100)
    populations = np.concatenate([population_log_w(one[None], N_PARTICLES)[0] for one in log_w])
    show(f"u1, populations, {what}", populations, cost, U1, (16, 16))


def flow_of(what: str, action: Action, plan: Callable[[int], StochasticFlowPlan], at: int, rate: float, n: int) -> None:
    """The stochastic flow of this plan, trained on a square of side `at` for n steps, on one of the plan's own side."""
    small, large, generator = plan(at).build(), plan(SIDE[action]).build(), torch.Generator().manual_seed(1)
    settings = TrainingSettings(max_steps=n, learning_rate=rate, ema_decay=0.98, monitor_samples=64)
    trained(small, action, settings)
    large.load_state_dict(small.state_dict())
    start = time.process_time()
    log_w = evaluate(large.requires_grad_(False), action, N_SAMPLES, generator)
    cost = 1e3 * (time.process_time() - start) / N_SAMPLES
    show(what, log_w, cost, action, (SIDE[action], SIDE[action]))


def trained(flow: Proposer, action: Action, settings: TrainingSettings) -> None:
    start = time.process_time()
    with TemporaryDirectory() as folder:
        train(flow, action, settings, Path(folder), seed=1, header={})
    print(f"{time.process_time() - start:.0f} s of training")


def flows() -> None:
    def couplings(side: int) -> StochasticFlowPlan:
        def coupling(action: Action) -> CheckerboardFlow:
            return CheckerboardFlow((side, side), action, n_layers=2, transform="affine", hidden=(2,), kernel=3)

        layers = (
            TransformLayer(lambda action: FourierScalingFlow((side, side), action)),
            TransformLayer(coupling),
            MarkovLayer(HeatBath, 2),
            MarkovLayer(Cluster),
        )
        return StochasticFlowPlan((side, side), LARGE, layers=layers, initial={"m2": 0.15, "lam": 0.0}, n_steps=100)

    flow_of("phi4 20x20, flow of 100 x (2 sweeps and a cluster)", LARGE, couplings, 16, 0.006, 300)
    for n_steps, n_updates in ((25, 2), (25, 4), (50, 4)):
        what = f"u1 16x16, flow of {n_steps} x {n_updates} sweeps"
        flow_of(what, U1, partial(plaquettes, n_steps=n_steps, n_updates=n_updates), 8, 0.05, 200)


def plaquettes(side: int, n_steps: int, n_updates: int, maps: bool = True) -> StochasticFlowPlan:
    layers = (TransformLayer(lambda action: PlaquetteMapFlow((side, side))), MarkovLayer(HeatBath, n_updates))
    return StochasticFlowPlan((side, side), U1, layers=layers[not maps :], initial={"beta": 1.0}, n_steps=n_steps)


def flow_smc() -> None:
    small, large = plaquettes(8, 25, 4).build(), plaquettes(16, 25, 4).build()
    trained(small, U1, TrainingSettings(max_steps=200, learning_rate=0.05, ema_decay=0.98, monitor_samples=64))
    large.load_state_dict(small.state_dict())
    for name, one in (("sweeps", plaquettes(16, 25, 4, maps=False).build()), ("maps and sweeps", large)):
        for below in (0.0, 0.5):
            sampler = FlowSMC(U1, one.double().requires_grad_(False), N_PARTICLES, below)
            show_populations(sampler, f"{name}, below {below}")


SECTIONS: dict[str, Callable[[], None]] = {
    "phi4": phi4,
    "u1": u1,
    "smc": smc,
    "flows": flows,
    "flow_smc": flow_smc,
}

if __name__ == "__main__":
    for section in sys.argv[1:] or SECTIONS:
        SECTIONS[section]()
