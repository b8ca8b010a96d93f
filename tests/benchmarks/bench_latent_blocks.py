"""Blocks of a trained flow's latents beside the other chains of that flow: bench_latent_blocks.py [FLOW ...]

Each flow of u1 at beta = 2 is trained for a minute, and weights of couplings serve larger lattices too. For each
lattice, on one thread: the acceptance, tau_int in updates, CPU milliseconds for an independent value of Q^2 and of the
plaquette, and how far both are from the closed forms, in errors. latent_blocks, flow_hmc (without a force) and hmc are
tuned; latent_blocks is also shown with blocks of other sizes. FLOW is a name as below; all take half an hour.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bench_flow_blocks import N_TUNING, run, show  # which also sets the number of threads

from lattice_flows.flows import Flow, multiscale, plaquette_coupling
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC, FlowHMC, FlowMetropolis, LatentBlocks, Sampler
from lattice_flows.theories import WilsonU1, sample_u1
from lattice_flows.training import TrainingSettings, recommended, train

ACTION, TRAINING, N_CHAINS, SECONDS = WilsonU1(2.0), 60.0, 32, 10.0
Build = Callable[[tuple[int, int]], Flow]
FLOWS: dict[str, tuple[str, Build, dict[str, object], tuple[int, ...]]] = {  # the first side is that of the training
    "couplings": ("plaquette_coupling", plaquette_coupling, {}, (8, 16, 32)),
    "tree": ("multiscale", lambda shape: multiscale(shape, ACTION), {"conditioner": "mlp"}, (8,)),
    "large tree": ("multiscale", lambda shape: multiscale(shape, ACTION), {"conditioner": "mlp"}, (32,)),
}


def compare(name: str) -> None:
    kind, build, options, sides = FLOWS[name]
    trained = build((sides[0], sides[0]))
    settings = TrainingSettings(**{**recommended(kind, options), "max_seconds": TRAINING})
    with tempfile.TemporaryDirectory() as folder:
        train(trained, ACTION, settings, Path(folder), seed=1, header={})
    for side in sides:
        flow = build((side, side)).requires_grad_(False)
        flow.load_state_dict(trained.state_dict())
        form = ACTION.closed_forms((side, side))
        exact = {"Q^2": form.charge_squared, "plaquette": form.plaquette}
        start, _ = sample_u1(ACTION.beta, side, side, make_streams(1, name, range(N_CHAINS)))
        print(f"{name} of {sides[0]}x{sides[0]} at {side}x{side}: Q^2 {exact['Q^2']:.6g}", flush=True)
        samplers: dict[str, Sampler] = {
            "hmc": HMC(ACTION),
            "flow_metropolis": FlowMetropolis(ACTION, flow),
            "flow_hmc": FlowHMC(ACTION, flow, force="none"),
            "latent_blocks": LatentBlocks(ACTION, flow),
        }
        for size in (4, 2) if side == 8 else (8,):
            samplers[f"latent_blocks of {size}"] = LatentBlocks(ACTION, flow, size)
        for label, sampler in samplers.items():
            streams = make_streams(2, label, range(N_CHAINS))
            state = sampler.init(start, streams)
            sampler = sampler.tune(state, N_TUNING)
            state = sampler.init(start, streams)
            _, info = sampler.step(state, 10)
            print(f"  acceptance {np.mean(info.accepted):.3f}", end="")
            show(label, sampler, run(sampler, state, SECONDS, 5), exact)
            sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for chosen in sys.argv[1:] or FLOWS:
        compare(chosen)
