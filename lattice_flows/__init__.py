"""Exact lattice field theory sampling with normalizing flows.

The names below are loaded when first used, so that ``import lattice_flows`` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Ensemble": "lattice_flows.ensembles",
    "FlowMetropolis": "lattice_flows.samplers",
    "Direct": "lattice_flows.samplers",
    "FlowHMC": "lattice_flows.samplers",
    "HMC": "lattice_flows.samplers",
    "ImprovedU1": "lattice_flows.theories",
    "WilsonU1": "lattice_flows.theories",
    "gamma_method": "lattice_flows.statistics",
    "plaquette_coupling": "lattice_flows.flows",
    "run": "lattice_flows.stages",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lattice_flows' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
