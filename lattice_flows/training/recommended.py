"""Recommended settings for each flow of the catalogue; the keys of a card take precedence."""

from collections.abc import Collection, Mapping
from typing import Any

_TREE: dict[str, Any] = {
    "objective": "reinforce",
    "batch_size": 64,
    "final_batch_size": 512,
    "learning_rate": 0.004,
    "adam_beta2": 0.99,
    "clip": 1.5,
    "ema_decay": 0.998,
}

_BY_FLOW: dict[str, dict[str, Any]] = {
    "multiscale": _TREE,
    "direct_draws": {"objective": "reinforce"},  # nothing to train, and no gradient
}


def recommended(flow: str, options: Mapping[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
    """Settings for the flow of this name with these options, where they are not TrainingSettings' defaults.

    Settings that would contradict a key that is `given` are left out: final_batch_size beside batch_size, and clip
    beside clip_norm.
    """
    settings = dict(_BY_FLOW.get(flow, {}))
    if flow == "multiscale" and options.get("conditioner") == "structured":
        settings |= {"final_batch_size": 256, "learning_rate": 0.01, "clip": 3.0}
    if "batch_size" in given:
        settings.pop("final_batch_size", None)
    if "clip_norm" in given:
        settings.pop("clip", None)
    return settings
