"""What the accept loop costs beside the making of proposals: python tests/benchmarks/bench_flow_metropolis.py

The default flow (untrained: the cost is the same) on 8x8, batches of 1024, four chains, one thread. `step` is called
once per stored configuration, as a run does. Medians over repetitions.
"""

import statistics
import time

import numba
import numpy as np
import torch

from lattice_flows.flows import plaquette_coupling
from lattice_flows.kernels.accept import independence_metropolis
from lattice_flows.kernels.random import make_streams, uniforms
from lattice_flows.samplers import FlowMetropolis
from lattice_flows.samplers.proposals import propose, seeded_generator
from lattice_flows.theories import WilsonU1

N_CHAINS, BATCH, REPETITIONS = 4, 1024, 15


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def main() -> None:
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    action, flow = WilsonU1(2.0), plaquette_coupling((8, 8)).requires_grad_(False)
    sampler = FlowMetropolis(action, flow, BATCH)
    streams = make_streams(1, "bench", range(N_CHAINS))
    x = np.zeros((N_CHAINS, 2, 8, 8))
    state, _ = sampler.step(sampler.init(x, streams), BATCH // N_CHAINS)
    generator = seeded_generator(flow, streams)
    making, judging, stepping = [], [], []
    for _ in range(REPETITIONS):
        seconds, batch = timed(lambda: propose(flow, action, generator, BATCH, x.shape))
        batch, _ = batch
        making.append(seconds)

        def judge(batch=batch):
            u, _ = uniforms(streams, len(batch.log_w))
            return independence_metropolis(np.zeros(N_CHAINS), batch.log_w, u, np.zeros(N_CHAINS, np.int64))

        judging.append(timed(judge)[0])
        state, _ = sampler.step(state)  # makes a new batch; what follows only advances
        rows = len(state.ahead.log_w)

        def advance(state=state, rows=rows):
            for _ in range(rows):
                state, _ = sampler.step(state)
            return state

        seconds, state = timed(advance)
        stepping.append(seconds)
    made = statistics.median(making)
    print(f"proposals: {made * 1e3:.1f} ms a batch of {BATCH}, {made / BATCH * 1e6:.0f} us each")
    print(f"compiled accept loop with its random numbers: {statistics.median(judging) / made:.3%} of that")
    print(f"all of step but the proposals, called once a configuration: {statistics.median(stepping) / made:.2%}")


if __name__ == "__main__":
    main()
