"""Blocks of a region tree beside HMC with and without hops: python tests/benchmarks/bench_flow_blocks.py [POINT ...]

For each theory and lattice, on one thread: tau_int in updates, CPU milliseconds for an independent value of Q^2 and of
the plaquette, and how far both are from the closed forms, in errors. Everything is tuned by its own `tune`, HMC from
what blocks have left, and the mixture has the number of hops, of 1, 4 and 16, at which Q^2 is cheapest. Where chains
changed Q fewer than 20 times there is a lower bound. POINT is a name as those below; all of them take ten minutes.
"""

import os
import sys
import time
from typing import NamedTuple

os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC, FlowBlocks, Instanton, Mixture, Part, Sampler
from lattice_flows.statistics import gamma_method
from lattice_flows.theories import Action, ImprovedU1, WilsonU1, sample_u1
from lattice_flows.theories.u1.kernels.fields import mean_plaquette, topological_charge

C1 = -1.0 / 12.0
POINTS: dict[str, tuple[Action, int, float]] = {  # action, side, seconds for each sampler
    "u1 8 6": (WilsonU1(6.0), 8, 10.0),
    "u1 16 6": (WilsonU1(6.0), 16, 15.0),
    "u1_improved 16 6": (ImprovedU1(6.0, C1), 16, 15.0),
    "u1_improved 32 12": (ImprovedU1(12.0, C1), 32, 20.0),
    "u1_improved 64 48": (ImprovedU1(48.0, C1), 64, 90.0),
}
N_CHAINS, N_THERMALISATION, N_TUNING, SHARE = 8, 100, 100, 0.1


class Chains(NamedTuple):
    seconds: float  # of CPU, without measuring
    n_updates: int
    plaquette: np.ndarray  # (n_updates, N_CHAINS)
    charge: np.ndarray


def run(sampler: Sampler, state: object, seconds: float, n_thermalisation: int = N_THERMALISATION) -> Chains:
    """Chains that take about so many seconds."""
    state, _ = sampler.step(state, n_thermalisation)
    spent, plaquette, charge = 0.0, [], []
    while spent < seconds or len(charge) < 20:
        start = time.process_time()
        state, _ = sampler.step(state)
        spent += time.process_time() - start
        plaquette.append(mean_plaquette(state.x))
        charge.append(np.rint(topological_charge(state.x)))
    return Chains(spent, len(charge), np.stack(plaquette), np.stack(charge))


def milliseconds(chains: Chains, values: np.ndarray) -> float:
    return 1e3 * chains.seconds / gamma_method(values).n_eff


def show(name: str, sampler: Sampler, chains: Chains, exact: dict[str, float]) -> None:
    settings = ", ".join(
        f"{key} = {value:.3g}" for key, value in sampler.findings().items() if isinstance(value, (int, float))
    )
    print(f"  {name} ({settings}): {1e3 * chains.seconds / chains.charge.size:.3f} ms an update")
    hops = int((np.diff(chains.charge, axis=0) != 0).sum())
    for label, values in (("Q^2", chains.charge**2), ("plaquette", chains.plaquette)):
        if label == "Q^2" and hops < 20:
            bound = 1e3 * chains.seconds / max(hops, 1)
            print(f"    Q^2        {hops} changes of Q: an independent one takes more than {bound:.0f} ms")
            continue
        found = gamma_method(values)
        print(
            f"    {label:10} tau_int {found.tau_int:.3f}({found.tau_int_error:.3f}) updates, "
            f"{milliseconds(chains, values):.3f} ms, n_eff {found.n_eff:.0f}, "
            f"{(found.value - exact[label]) / found.error:+.1f} errors from the closed form"
        )


def compare(name: str) -> None:
    action, side, seconds = POINTS[name]
    start, _ = sample_u1(action.loop_couplings[0], side, side, make_streams(1, name, range(N_CHAINS)))
    form = action.closed_forms((side, side))
    exact = {"Q^2": form.charge_squared, "plaquette": form.plaquette}
    print(f"{name}: Q^2 {exact['Q^2']:.6g}, plaquette {exact['plaquette']:.8g}")

    def begun(sampler: Sampler) -> tuple[Sampler, object]:
        state = sampler.init(start, make_streams(2, name, range(N_CHAINS)))
        return sampler.tune(state, N_TUNING), state

    blocks, state = begun(FlowBlocks(action))
    show("flow_blocks", blocks, run(blocks, state, seconds), exact)
    start = blocks.step(state, N_THERMALISATION)[0].x  # in equilibrium, also for chains that keep their charge
    hmc, state = begun(HMC(action))
    show("hmc", hmc, run(hmc, state, seconds), exact)
    mixtures = {n: begun(Mixture(action, (Part(hmc), Part(Instanton(action), n)))) for n in (1, 4, 16)}
    costs = {}
    for n, (sampler, state) in mixtures.items():
        short = run(sampler, state, SHARE * seconds)
        costs[n] = milliseconds(short, short.charge**2)
    n_hops = min(costs, key=costs.__getitem__)
    show(f"mixture of hmc and {n_hops} hops", hmc, run(*mixtures[n_hops], seconds), exact)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or POINTS:
        compare(chosen)
