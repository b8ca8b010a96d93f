"""What is sampled."""

from lattice_flows.actions.action import Action, ActionKernels
from lattice_flows.actions.u1 import WilsonU1

ACTIONS: dict[str, type[Action]] = {"u1": WilsonU1}

__all__ = ["ACTIONS", "Action", "ActionKernels", "WilsonU1"]
