"""What a finished run holds: the flow, and the configurations and weights of its ensembles."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generator.systems import Array, System

from lattice_flows.card.build import load_flow
from lattice_flows.ensembles import Ensemble
from lattice_flows.flows import Flow
from lattice_flows.production.run_folder import find_run
from lattice_flows.training import CHECKPOINT_NAME

_N_UPPER = 20_000  # configurations of the yardstick of which log w is taken


@dataclass(frozen=True)
class Finished:
    """A run of one of the cards."""

    system: System
    summary: dict[str, Any]
    flow: Flow
    samples: Array  # (n, 2), independent samples of the flow
    log_w: Array  # (n,), of these
    chain: Array  # (n, B, 2), of flow_metropolis
    yardstick: Array  # (n, B, 2), of the sampler without a flow
    chain_log_w: Array  # (n, B), of the yardstick's last configurations
    evaluations: dict[str, int]  # of S or its force, by ensemble and of the training

    @classmethod
    def of(cls, system: System, folder: Path) -> "Finished":
        """Read the folder."""
        card = find_run(folder, None)[1]
        flow, _ = load_flow(card, folder / "flow" / CHECKPOINT_NAME, torch.device("cpu"))
        assert isinstance(flow, Flow)
        summary = json.loads((folder / "report" / "summary.json").read_text())
        with Ensemble.open(folder / "ensembles" / "samples.h5") as file:
            samples, log_w = file.configs(0, file.n_configs).reshape(-1, 2), file.series("log_w").ravel()
        chain, yardstick = (_configs(folder / "ensembles" / f"{name}.h5") for name in ("flow", "tempering"))
        last = yardstick[-(_N_UPPER // yardstick.shape[1]) :]
        evaluations = {
            "training": _of_training(summary["flow"]["n_steps"], card.training),
            "samples": len(log_w),
            "flow": chain.size // 2,
            "tempering": yardstick.size // 2 * _of_update(summary["ensembles"]["tempering"]),
        }
        found = log_weights(flow, system, last.reshape(-1, 2)).reshape(last.shape[:2])
        return cls(system, summary, flow, samples, log_w, chain, yardstick, found, evaluations)


def log_weights(flow: Flow, system: System, x: Array) -> Array:
    """log w of points (n, 2), (n,)."""
    with torch.no_grad():
        return -system.action.evaluate(x) - flow.log_prob(torch.from_numpy(x)).numpy()


def latent(flow: Flow, x: Array) -> Array:
    """The points z of x, (n, 2)."""
    with torch.no_grad():
        return np.asarray(flow.transform.inverse(torch.from_numpy(x))[0].numpy())


def image(flow: Flow, z: Array) -> Array:
    """The points x of z, (n, 2)."""
    with torch.no_grad():
        return np.asarray(flow.transform.forward(torch.from_numpy(z))[0].numpy())


def _configs(path: Path) -> Array:
    with Ensemble.open(path) as file:
        return file.configs(0, file.n_configs)


def _of_training(n_steps: int, settings: Any) -> int:
    """A step takes S of a batch of samples, and of as many configurations before and after each move."""
    return n_steps * settings.batch_size * (2 + settings.latent_moves)


def _of_update(ensemble: dict[str, Any]) -> int:
    """An update makes a trajectory of every replica: a force for each step, and one before them."""
    return sum(rung["n_md_steps"] + 1 for rung in ensemble["settings"]["rungs"])
