"""Stochastic flows of every kind of layer, on small lattices, and faults of resampling."""

import numpy as np
import pytest
import torch

from lattice_flows.flows import CheckerboardFlow, PlaquetteCouplingFlow
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC, HeatBath, LangevinLayer, MarkovLayer, StochasticFlowPlan, TransformLayer
from lattice_flows.samplers.populations import resampled
from lattice_flows.theories import Phi4, WilsonU1

SHAPE = (4, 4)
LINKS, SCALARS = WilsonU1(1.6), Phi4(0.3, 0.0)
COUPLINGS = TransformLayer(lambda action: PlaquetteCouplingFlow(SHAPE, n_layers=8, hidden=(4,), n_components=2))
SITES = TransformLayer(
    lambda action: CheckerboardFlow(SHAPE, action, n_layers=2, transform="affine", hidden=(4,), kernel=3)
)
HEAT, BLOCK = MarkovLayer(HeatBath, 2), MarkovLayer(lambda action: HMC(action, 0.7, 4), 3)

FLOWS = {
    "couplings and heat bath": (LINKS, {"beta": 1.0}, (COUPLINGS, HEAT), 3),
    "couplings and one block of hmc": (LINKS, {"beta": 1.2}, (COUPLINGS, BLOCK), 1),
    "langevin on links": (LINKS, {"beta": 1.0}, (LangevinLayer(0.02, 3),), 4),
    "phi4 with everything": (SCALARS, {"m2": 0.5}, (SITES, LangevinLayer(0.01, 2), HEAT), 3),
}

_FAULTS = {  # in the place of `resampled`
    "the log mean weight is forgotten": lambda log_w, u: (resampled(log_w, u)[0], np.zeros(len(log_w))),
    "the old weights are kept": lambda log_w, u: (resampled(log_w, u)[0], log_w[resampled(log_w, u)[0]]),
}
resampling_faults = pytest.mark.parametrize("fault", _FAULTS.values(), ids=_FAULTS)


def built(action, initial, layers, n_steps):
    """The flow with small random weights, in double precision: all of them zero is the identity."""
    flow = StochasticFlowPlan(SHAPE, action, layers=layers, initial=initial, n_steps=n_steps).build().double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.mul_(0.2).add_(0.02 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return flow.requires_grad_(False)


def drawn(action, n, seed):
    x, _ = action.direct_sampler().draw(action.event_shape(SHAPE), make_streams(seed, "target", range(n)))
    return torch.from_numpy(x)
