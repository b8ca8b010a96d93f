"""Localised updates beside blocks of a tree and HMC with hops: python tests/benchmarks/bench_localised.py [SIDE ...]

2D U(1) at beta = 6 on SIDE x SIDE, by default 32, 64, 128 and 256, on one thread: acceptance, tau_int in updates, CPU
milliseconds for an independent value of Q^2 and of the plaquette, and how far both are from the closed forms, in
errors. Blocks are tuned, the tree is that of beta, and chains begin in equilibrium. Of trajectories of some lengths,
with some numbers of hops or of winding steps of some sizes, those are shown with which the dearer of the two
observables is cheapest. All sides take ten minutes.
"""

import sys

from bench_flow_blocks import N_CHAINS, N_TUNING, milliseconds, run, show  # which also sets the number of threads

from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC, FlowBlocks, Instanton, Localised, Mixture, Part, Sampler, WindingHMC
from lattice_flows.theories import WilsonU1, sample_u1

ACTION, SECONDS, SHARE = WilsonU1(6.0), 8.0, 0.05
LENGTHS, N_HOPS, N_WINDINGS, SIZES = (0.5, 1.0, 2.0), (16, 128, 2048), (10, 100, 1000), (8, 16)


def compare(side: int) -> None:
    start, _ = sample_u1(ACTION.beta, side, side, make_streams(1, f"u1 {side}", range(N_CHAINS)))
    form = ACTION.closed_forms((side, side))
    exact = {"Q^2": form.charge_squared, "plaquette": form.plaquette}
    print(f"{side}: Q^2 {exact['Q^2']:.6g}, plaquette {exact['plaquette']:.8g}")

    def begun(sampler: Sampler) -> tuple[Sampler, object]:
        state = sampler.init(start, make_streams(2, f"u1 {side}", range(N_CHAINS)))
        return sampler.tune(state, N_TUNING), state

    for name, sampler in (("localised", Localised(ACTION)), ("flow_blocks", FlowBlocks(ACTION, ACTION.beta))):
        tuned, state = begun(sampler)
        show(
            f"{name}, acceptance {tuned.step(state, 20)[1].accepted.mean():.4f}",
            tuned,
            run(tuned, state, SECONDS),
            exact,
        )
    hmcs = [begun(HMC(ACTION, length))[0] for length in LENGTHS]
    hops = {
        f"hmc of length {hmc.trajectory_length:g} and {n} hops": Mixture(
            ACTION, (Part(hmc), Part(Instanton(ACTION), n))
        )
        for hmc in hmcs
        for n in N_HOPS
    }
    windings = {
        f"winding_hmc of length {hmc.trajectory_length:g} with {n} steps of size {size}": WindingHMC(
            ACTION, hmc.trajectory_length, hmc.n_md_steps, size=size, n_windings=n
        )
        for hmc in hmcs
        for n in N_WINDINGS
        for size in SIZES
    }
    for samplers in (hops, windings):
        costs = {}
        for name, sampler in samplers.items():
            short = run(*begun(sampler), SHARE * SECONDS, 1)
            costs[name] = max(milliseconds(short, short.charge**2), milliseconds(short, short.plaquette))
        best = min(costs, key=costs.__getitem__)
        show(f"{best}, of {len(costs)}", samplers[best], run(*begun(samplers[best]), SECONDS), exact)


if __name__ == "__main__":
    for chosen in map(int, sys.argv[1:] or (32, 64, 128, 256)):
        compare(chosen)
