"""Blocks of a trained flow's latents beside the other chains of that flow: bench_latent_blocks.py [FLOW ...]

Each flow is trained for a minute, and weights of couplings serve larger lattices too. For each lattice, on one thread:
the acceptance, tau_int in updates, CPU milliseconds for an independent value of Q^2 and of the plaquette, and how far
both are from the closed forms, in errors. latent_blocks, flow_blocks, flow_hmc (without a force) and hmc are tuned;
latent_blocks is also shown with blocks of other sizes. FLOW is a name as below; all take half an hour.
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
from lattice_flows.samplers import HMC, FlowBlocks, FlowHMC, FlowMetropolis, LatentBlocks, Sampler
from lattice_flows.theories import Action, ImprovedU1, WilsonU1, sample_u1
from lattice_flows.training import TrainingSettings, recommended, train

TRAINING, N_CHAINS, SECONDS, N_THERMALISATION = 60.0, 32, 10.0, 20
WILSON, RECTANGLES, STIFF = WilsonU1(2.0), ImprovedU1(6.0, -1.0 / 12.0), ImprovedU1(12.0, -1.0 / 12.0)
Build = Callable[[tuple[int, int]], Flow]
MLP: dict[str, object] = {"conditioner": "mlp"}
Point = tuple[Action, str, Build, dict[str, object], tuple[int, ...]]
FLOWS: dict[str, Point] = {  # of the sides the first is that of the training
    "couplings": (WILSON, "plaquette_coupling", plaquette_coupling, {}, (8, 16, 32)),
    "tree": (WILSON, "multiscale", lambda shape: multiscale(shape, WILSON), MLP, (8,)),
    "large tree": (WILSON, "multiscale", lambda shape: multiscale(shape, WILSON), MLP, (32,)),
    "tree for rectangles": (RECTANGLES, "multiscale", lambda shape: multiscale(shape, RECTANGLES), MLP, (16,)),
    "large tree for rectangles": (STIFF, "multiscale", lambda shape: multiscale(shape, STIFF), MLP, (32,)),
}


def compare(name: str) -> None:
    action, kind, build, options, sides = FLOWS[name]
    trained = build((sides[0], sides[0]))
    settings = TrainingSettings(**{**recommended(kind, options), "max_seconds": TRAINING})
    with tempfile.TemporaryDirectory() as folder:
        train(trained, action, settings, Path(folder), seed=1, header={})
    for side in sides:
        flow = build((side, side)).requires_grad_(False)
        flow.load_state_dict(trained.state_dict())
        form = action.closed_forms((side, side))
        exact = {"Q^2": form.charge_squared, "plaquette": form.plaquette}
        start, _ = sample_u1(action.loop_couplings[0], side, side, make_streams(1, name, range(N_CHAINS)))
        print(f"{name} of {sides[0]}x{sides[0]} at {side}x{side}: Q^2 {exact['Q^2']:.6g}", flush=True)
        samplers: dict[str, Sampler] = {
            "hmc": HMC(action),
            "flow_metropolis": FlowMetropolis(action, flow),
            "flow_hmc": FlowHMC(action, flow, force="none"),
            "flow_blocks": FlowBlocks(action),
            "latent_blocks": LatentBlocks(action, flow),
        }
        for size in (4, 2) if side == 8 else (8,):
            samplers[f"latent_blocks of {size}"] = LatentBlocks(action, flow, size)
        for label, sampler in samplers.items():
            streams = make_streams(2, label, range(N_CHAINS))
            state = sampler.init(start, streams)
            sampler = sampler.tune(state, N_TUNING)
            state = sampler.init(start, streams)
            _, info = sampler.step(state, 10)
            print(f"  acceptance {np.mean(info.accepted):.3f}", end="")
            show(label, sampler, run(sampler, state, SECONDS, N_THERMALISATION), exact)
            sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for chosen in sys.argv[1:] or FLOWS:
        compare(chosen)
