"""What is sampled."""

from lattice_flows.actions.action import Action, ActionKernels, DirectSampler, LocalUpdates
from lattice_flows.actions.phi4 import Phi4, Phi4Hopping
from lattice_flows.actions.u1 import WilsonU1
from lattice_flows.actions.u1_improved import ImprovedU1

ACTIONS: dict[str, type[Action]] = {
    "u1": WilsonU1,
    "u1_improved": ImprovedU1,
    "phi4": Phi4,
    "phi4_hopping": Phi4Hopping,
}

__all__ = [
    "ACTIONS",
    "Action",
    "ActionKernels",
    "DirectSampler",
    "ImprovedU1",
    "LocalUpdates",
    "Phi4",
    "Phi4Hopping",
    "WilsonU1",
]
