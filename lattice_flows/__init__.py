"""Exact lattice field theory sampling with normalizing flows.

    import lattice_flows as lf

The names below are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "lattice": ("CIRCLE", "REAL", "SU2", "Discrete", "Interval", "Product", "Space", "Sphere"),
    "theories": (
        "THEORIES",
        "OBSERVABLES",
        "Action",
        "CollectiveVariable",
        "Observable",
        "Quantity",
        "Term",
        "Label",
        "WilsonU1",
        "ImprovedU1",
        "Phi4",
        "Phi4Hopping",
        "Ising",
        "XY",
        "Villain",
        "DoubleWell",
        "MuellerBrown",
        "OpenMMSystem",
        "AlanineDipeptide",
        "Peptide",
        "Regularised",
        "ManyWell",
        "DimerBath",
        "LabelledDimerBath",
        "ExactU1",
        "FreeField",
        "Plaquette",
        "TopologicalCharge",
        "WilsonLoop",
        "PolyakovCorrelator",
        "PolyakovLoop",
        "PolyakovModulus",
        "Flowed",
        "Magnetisation",
        "LinkEnergy",
        "LowestMode",
        "TwoPoint",
    ),
    "samplers": (
        "SAMPLERS",
        "Sampler",
        "HMC",
        "FourierHMC",
        "WindingHMC",
        "Metropolis",
        "RandomWalk",
        "HeatBath",
        "Overrelaxation",
        "Cluster",
        "SwendsenWang",
        "Instanton",
        "Direct",
        "Mixture",
        "Part",
        "Tempering",
        "ReplicaExchange",
        "Metadynamics",
        "Umbrella",
        "FlowMetropolis",
        "FlowHMC",
        "FlowBlocks",
        "LatentBlocks",
        "Localised",
        "LocalisedFlow",
        "FlowSamples",
        "Annealed",
        "SMC",
        "FlowSMC",
        "StochasticFlowPlan",
    ),
    "flows": (
        "FLOWS",
        "Flow",
        "FlowPlan",
        "Prior",
        "Transform",
        "Chain",
        "Inverse",
        "Pullback",
        "plaquette_coupling",
        "multiscale",
        "hybrid",
        "checkerboard_coupling",
        "gradient_flow",
        "fourier_scaling",
        "plaquette_map",
        "composed",
    ),
    "training": ("TrainingSettings", "train", "evaluate", "path_gradient", "reinforce", "reverse_kl"),
    "statistics": (
        "Estimate",
        "gamma_method",
        "derived",
        "reweighted",
        "derived_reweighted",
        "weighted_mean",
        "effective_sample_size",
        "log_partition",
        "pareto_k",
        "r_hat",
        "pull",
        "mbar",
        "bennett",
        "by_weights",
        "by_windows",
        "flow_difference",
        "gauss_legendre",
        "inside",
        "log_z_by_integration",
        "log_z_interval",
        "profile",
        "region_difference",
        "trapezoidal",
    ),
    "ensembles": ("Ensemble", "FieldSpec"),
    "kernels.random": ("make_streams",),
    "stages": ("run",),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lattice_flows' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
