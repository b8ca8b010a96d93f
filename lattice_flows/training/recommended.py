"""What suits each flow of the catalogue; the keys of a card come before it."""

from collections.abc import Mapping
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

_BY_FLOW: dict[str, dict[str, Any]] = {"multiscale": _TREE}


def recommended(flow: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for the flow of this name with these options, where they are not TrainingSettings' defaults."""
    settings = dict(_BY_FLOW.get(flow, {}))
    if options.get("conditioner") == "structured":
        settings |= {"batch_size": 256, "final_batch_size": 512, "learning_rate": 0.01, "clip": 3.0}
    return settings
