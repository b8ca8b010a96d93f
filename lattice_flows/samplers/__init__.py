"""Markov chains and samplers over actions and flows: `init` and `step`."""

from typing import Any

from lattice_flows.samplers.direct import Direct
from lattice_flows.samplers.flow_hmc import FlowHMC
from lattice_flows.samplers.flow_metropolis import FlowMetropolis
from lattice_flows.samplers.flow_samples import FlowSamples
from lattice_flows.samplers.hmc import HMC
from lattice_flows.samplers.sampler import Sampler

SAMPLERS: dict[str, Any] = {
    "hmc": HMC,
    "flow_metropolis": FlowMetropolis,
    "flow_hmc": FlowHMC,
    "flow_samples": FlowSamples,
    "direct": Direct,
}

__all__ = ["HMC", "SAMPLERS", "Direct", "FlowHMC", "FlowMetropolis", "FlowSamples", "Sampler"]
