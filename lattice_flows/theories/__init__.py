"""The lattice field theories: a folder for each, with its action, observables, closed forms and kernels.

The names below are loaded on first use: kernels and closed forms need no torch, and importing them runs this file.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "action": ("Action", "DirectSampler", "LocalUpdates", "Oracle"),
    "catalogue": ("OBSERVABLES", "THEORIES"),
    "collective": ("CollectiveVariable",),
    "combined": ("Combined",),
    "dimer.action": ("DimerBath",),
    "dimer.labelled": ("LabelledDimerBath", "relabelled"),
    "ising.action": ("Ising",),
    "ising.closed_forms": ("ExactIsing",),
    "molecules.action": ("AlanineDipeptide", "MolecularAction", "OpenMMSystem", "Peptide"),
    "observable": ("Label", "Observable", "Quantity", "Term"),
    "phi4.action": ("Phi4", "Phi4Hopping"),
    "phi4.free_field": ("FreeField", "sample_free_field"),
    "phi4.observables": ("LinkEnergy", "LowestMode", "Magnetisation", "TwoPoint"),
    "potentials.action": ("DoubleWell", "MuellerBrown"),
    "regularised": ("Regularised",),
    "potentials.many_well": ("ManyWell",),
    "u1.action": ("WilsonU1",),
    "u1.closed_forms": ("ExactU1",),
    "u1.direct": ("sample_u1",),
    "u1.flowed": ("LONGEST_FLOW", "Flowed"),
    "u1.observables": (
        "Plaquette",
        "PolyakovCorrelator",
        "PolyakovLoop",
        "PolyakovModulus",
        "TopologicalCharge",
        "WilsonLoop",
        "creutz_ratio",
    ),
    "u1_improved.action": ("ImprovedU1",),
    "u1_improved.closed_forms": ("ExactImprovedU1",),
    "xy.action": ("XY", "Villain"),
    "xy.observables": ("Energy", "HelicityModulus", "VortexDensity"),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
