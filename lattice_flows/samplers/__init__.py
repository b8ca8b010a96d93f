"""Markov chains and samplers over actions and flows: `init` and `step`."""

from collections.abc import Mapping
from typing import Any

from lattice_flows.catalogue import Catalogue
from lattice_flows.flows import FLOWS
from lattice_flows.samplers.annealed import Annealed
from lattice_flows.samplers.cluster import Cluster, SwendsenWang
from lattice_flows.samplers.composite import Part
from lattice_flows.samplers.direct import Direct
from lattice_flows.samplers.flow_blocks import FlowBlocks
from lattice_flows.samplers.flow_hmc import FlowHMC
from lattice_flows.samplers.flow_metropolis import FlowMetropolis
from lattice_flows.samplers.flow_samples import FlowSamples
from lattice_flows.samplers.flow_smc import FlowSMC
from lattice_flows.samplers.fourier_hmc import FourierHMC
from lattice_flows.samplers.hmc import HMC
from lattice_flows.samplers.instanton import Instanton
from lattice_flows.samplers.latent_blocks import LatentBlocks
from lattice_flows.samplers.local import HeatBath, Metropolis, Overrelaxation
from lattice_flows.samplers.localised import Localised, LocalisedFlow
from lattice_flows.samplers.metadynamics import Metadynamics
from lattice_flows.samplers.mixture import Mixture
from lattice_flows.samplers.random_walk import RandomWalk
from lattice_flows.samplers.replica_exchange import ReplicaExchange
from lattice_flows.samplers.sampler import Coordinate, Sampler, SamplerFactory, Windows
from lattice_flows.samplers.smc import SMC
from lattice_flows.samplers.stochastic_flow import (
    LangevinLayer,
    LayerPlan,
    MarkovLayer,
    StochasticFlow,
    StochasticFlowPlan,
    TransformLayer,
)
from lattice_flows.samplers.tempering import Tempering
from lattice_flows.samplers.umbrella import Umbrella
from lattice_flows.samplers.winding_hmc import WindingHMC

SAMPLERS: Catalogue[type[Sampler]] = Catalogue(
    "samplers",
    {
        "hmc": HMC,
        "metropolis": Metropolis,
        "heatbath": HeatBath,
        "overrelaxation": Overrelaxation,
        "fourier_hmc": FourierHMC,
        "instanton": Instanton,
        "winding_hmc": WindingHMC,
        "cluster": Cluster,
        "swendsen_wang": SwendsenWang,
        "random_walk": RandomWalk,
        "mixture": Mixture,
        "tempering": Tempering,
        "replica_exchange": ReplicaExchange,
        "metadynamics": Metadynamics,
        "umbrella": Umbrella,
        "flow_metropolis": FlowMetropolis,
        "flow_hmc": FlowHMC,
        "flow_blocks": FlowBlocks,
        "latent_blocks": LatentBlocks,
        "localised": Localised,
        "localised_flow": LocalisedFlow,
        "flow_samples": FlowSamples,
        "direct": Direct,
        "annealed": Annealed,
        "smc": SMC,
        "flow_smc": FlowSMC,
    },
    base=Sampler,
)


FLOWS.add_own("stochastic_flow", StochasticFlowPlan)  # made of samplers, which the flows below do not know


def windows_of(settings: Mapping[str, Any]) -> Windows | None:
    """The windows of an ensemble's chains, from its stored [sampler] table: name and arguments.

    None without windows, and for a sampler that is not in the catalogue: an imported one, or a newer one.
    """
    name = settings.get("name", "")
    return SAMPLERS[name].windows if name in SAMPLERS else None


__all__ = [
    "HMC",
    "SAMPLERS",
    "SMC",
    "Annealed",
    "Cluster",
    "Coordinate",
    "Direct",
    "FlowBlocks",
    "FlowHMC",
    "FlowMetropolis",
    "FlowSMC",
    "FlowSamples",
    "FourierHMC",
    "HeatBath",
    "Instanton",
    "LangevinLayer",
    "LatentBlocks",
    "LayerPlan",
    "Localised",
    "LocalisedFlow",
    "MarkovLayer",
    "Metadynamics",
    "Metropolis",
    "Mixture",
    "Overrelaxation",
    "Part",
    "RandomWalk",
    "ReplicaExchange",
    "Sampler",
    "SamplerFactory",
    "StochasticFlow",
    "StochasticFlowPlan",
    "SwendsenWang",
    "Tempering",
    "TransformLayer",
    "Umbrella",
    "WindingHMC",
    "Windows",
    "windows_of",
]
