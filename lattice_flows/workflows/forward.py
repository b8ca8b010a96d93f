"""The mode-collapse test of a flow: its ESS judged by configurations that it did not make itself."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from lattice_flows.flows import Flow
from lattice_flows.samplers.proposals import device_of
from lattice_flows.statistics import forward_ess
from lattice_flows.training import CHECKPOINT_NAME
from lattice_flows.workflows.assemble import load_flow
from lattice_flows.workflows.card import Card
from lattice_flows.workflows.compute import resolve_device
from lattice_flows.workflows.folder import RunFolder
from lattice_flows.workflows.replicas import Replicas
from lattice_flows.workflows.sampler_tables import needs_flow

Summary = dict[str, Any]

_MOST_CONFIGS = 2048  # of one ensemble; each costs an inverse of the flow
_MOST_CHAINS = 64
_FEWEST_CONFIGS = 100
_BATCH = 256
_COLLAPSED = 0.5  # a forward ESS below so much of the reverse one, by three errors


def forward_summary(folder: RunFolder, card: Card, groups: Iterable[Replicas], flow: Summary) -> Summary:
    """{"forward": {NAME: figures}, "warnings": [...]}, to be merged into the flow's summary.

    Ensembles count that know nothing of the flow, are not weighted, and keep their fields. The reverse ESS, from the
    flow's own samples, does not see a region that the flow never visits; this one does, as far as the ensemble visits
    it.
    """
    groups = [group for group in groups if _is_independent(group)]
    if not groups:
        return {"forward": {}}
    trained, _ = load_flow(card, folder.flow / CHECKPOINT_NAME, resolve_device(card.device))
    forward = {group.name: _figures(group, card, trained, flow["ess"]) for group in groups}
    text = (
        "forward ESS {ess:.3f}({ess_error:.3f}) on the ensemble {name} is far below the ESS {reverse:.3f} of the "
        "flow's own samples: the flow misses a part of the target (mode collapse)"
    )
    found = [
        text.format(name=name, reverse=flow["ess"], **figures)
        for name, figures in forward.items()
        if figures["collapsed"]
    ]
    return {"forward": forward, "warnings": flow["warnings"] + found}


def _is_independent(group: Replicas) -> bool:
    return (
        not group.weighted
        and not needs_flow(group.sampler["name"], group.sampler)
        and all(file.has_fields for file in group.files)
        and group.n_configs * group.n_chains >= _FEWEST_CONFIGS
    )


def _figures(group: Replicas, card: Card, flow: Flow, reverse: float) -> Summary:
    log_w = _log_weights(group, card, flow)
    ess = forward_ess(list(log_w.T))
    collapsed = ess.value + 3.0 * ess.error < _COLLAPSED * reverse
    return {"ess": ess.value, "ess_error": ess.error, "n_samples": log_w.size, "collapsed": collapsed}


def _log_weights(group: Replicas, card: Card, flow: Flow) -> np.ndarray:
    """log w = -S - log q of configurations spread evenly over the first file's chains, (n, n_chains)."""
    file = group.files[0]
    n_chains = min(file.n_chains, _MOST_CHAINS)
    rows = np.unique(np.linspace(group.first, file.n_configs - 1, _MOST_CONFIGS // n_chains).astype(int))
    x = np.concatenate([file.configs(row, row + 1)[:, :n_chains] for row in rows]).astype(np.float64)  # (n, B, *event)
    flat = x.reshape(-1, *file.field.shape)  # (n * B, *event)
    action = card.theory.action.evaluate(flat)
    with torch.no_grad():
        log_q = [flow.log_prob(torch.from_numpy(part).to(device_of(flow))).cpu() for part in _batches(flat)]
    return (-action - torch.cat(log_q).double().numpy()).reshape(len(rows), n_chains)


def _batches(x: np.ndarray) -> list[np.ndarray]:
    return [x[start : start + _BATCH] for start in range(0, len(x), _BATCH)]
