"""Recommended settings for each flow of the catalogue; the keys of a card take precedence."""

from collections.abc import Mapping
from typing import Any

from lattice_flows.flows.map_catalogue import name_of

_TREE: dict[str, Any] = {
    "objective": "reinforce",
    "batch_size": 64,
    "final_batch_size": 512,
    "learning_rate": 0.004,
    "adam_beta2": 0.99,
    "clip": 1.5,
    "ema_decay": 0.998,
}

# Path gradients hardly see that two modes have the wrong shares, and a step of few numbers costs what one of many does.
# Annealing begins where both modes are one.
_VECTOR: dict[str, Any] = {
    "objective": "reverse_kl",
    "batch_size": 1024,
    "learning_rate": 0.004,
    "warmup": 0.1,
    "anneal": 0.5,
}
_FROM_DATA = ("forward_kl", "mixture", "self_normalised")  # which anneal no action

# Couplings that begin as the identity on a good base.
_HYBRID: dict[str, Any] = {
    "final_batch_size": 256,
    "learning_rate": 0.005,
    "adam_beta2": 0.99,
    "clip": 2.0,
    "ema_decay": 0.998,
}

# Its steps are chosen at each look: coefficients that grow meanwhile must not outrun them.
_GRADIENT_FLOW: dict[str, Any] = {
    "objective": "reverse_kl",
    "learning_rate": 0.002,
    "monitor_samples": 512,
}

# Few weights, and path gradients of little noise.
_CONTINUOUS: dict[str, Any] = {
    "batch_size": 32,
    "final_batch_size": 64,
    "learning_rate": 0.03,
    "warmup": 0.05,
    "adam_beta2": 0.99,
}
_NO_PATHS: dict[str, Any] = {"objective": "reverse_kl"}  # of transforms whose inverse takes long: no score
FORMERLY: dict[str, dict[str, Any]] = {
    "hybrid": {"final_batch_size": None, "learning_rate": 0.008, "adam_beta2": 0.999, "clip": None, "ema_decay": 0.99}
}
"""What was recommended for a flow of before, and so what cards of before mean where they do not say."""

_BY_FLOW: dict[str, dict[str, Any]] = {
    "multiscale": _TREE,
    "hybrid": _HYBRID,
    "gradient_flow": _GRADIENT_FLOW,
    "vector_coupling": _VECTOR,
    "direct_draws": {"objective": "reinforce"},  # nothing to train, and no gradient
}


def recommended(flow: str, options: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Settings for the flow of this name with these options, where they are not TrainingSettings' defaults.

    Settings that would contradict one that is `given` are left out: final_batch_size beside batch_size, clip beside
    clip_norm, and anneal with an objective that learns from configurations.
    """
    given = given or {}
    settings = dict(_BY_FLOW.get(flow, {}))
    if flow == "multiscale" and options.get("conditioner") == "structured":
        settings |= {"final_batch_size": 256, "learning_rate": 0.01, "clip": 3.0}
    if flow in ("composed", "symmetrised"):
        names = {name_of(table) for table in options.get("transforms", ())}
        settings |= (_CONTINUOUS if names == {"continuous_lattice"} else {}) | (_NO_PATHS if "iaf" in names else {})
    if "batch_size" in given:
        settings.pop("final_batch_size", None)
    if "clip_norm" in given:
        settings.pop("clip", None)
    if given.get("objective") in _FROM_DATA:
        settings.pop("anneal", None)
    return settings


def recommended_then(flow: str, given: Mapping[str, Any], held: Mapping[str, Any]) -> dict[str, Any]:
    """The former recommendations, where a training with the settings `held` was begun with them.

    given: the keys of its card, which have not changed their meaning.
    """
    former = {key: value for key, value in FORMERLY.get(flow, {}).items() if key not in given}
    return former if all(held.get(key) == value for key, value in former.items()) else {}
