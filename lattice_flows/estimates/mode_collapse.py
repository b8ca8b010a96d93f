"""The mode-collapse test of a flow: its ESS estimated from configurations that it did not generate itself."""

from collections.abc import Iterable

import numpy as np
import torch

from lattice_flows.card.build import load_flow
from lattice_flows.card.card import Card
from lattice_flows.card.samplers import needs_flow
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.summary_types import EnsembleSummary, ForwardESS, Weights
from lattice_flows.flows import Proposer
from lattice_flows.production.devices import device_for_analysis
from lattice_flows.production.header import chains_of
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.samplers.proposals import device_of
from lattice_flows.statistics import forward_ess
from lattice_flows.terminal import numbers
from lattice_flows.training import CHECKPOINT_NAME, load_flow_weights

_MOST_CONFIGS = 2048  # of one ensemble; each costs an inverse of the flow
_MOST_CHAINS = 64
_FEWEST_CONFIGS, _FEWEST_IN_ALL = 20, 100
_BATCH = 256
_COLLAPSED = 0.5  # a forward ESS below so much of the reverse one, by three errors


def forward_summary(
    folder: RunFolder, card: Card, ensembles: Iterable[tuple[Replicas, EnsembleSummary]], flow: Weights
) -> tuple[dict[str, ForwardESS], list[str]]:
    """The forward ESS by ensemble, and warnings.

    ensembles: with their summaries; only those are tested that are unweighted, were sampled without a flow and store
        their fields.
    flow: the summary of the weights of the flow's own samples.

    The reverse ESS, from the flow's own samples, does not notice a region that the flow never visits; the forward ESS
    does, as far as the ensemble visits it.
    """
    learned = str(load_flow_weights(folder.flow / CHECKPOINT_NAME).header.get("data"))
    independent = [
        (group, ensemble)
        for group, ensemble in ensembles
        if _is_independent(group) and not any(chains_of(file.attributes) in learned for file in group.files)
    ]
    if not independent:
        return {}, []
    trained, _ = load_flow(card, folder.flow / CHECKPOINT_NAME, device_for_analysis(card.device))
    forward = {
        group.name: _figures(_log_weights(group, card, trained), flow, _moves(ensemble))
        for group, ensemble in independent
    }
    reverse = numbers.ess(flow["ess"], flow["ess_error"], flow["n_samples"], flow["ess_reliable"])
    warnings = [
        f"forward ESS {numbers.with_error(figures['ess'], figures['ess_error'])} on the ensemble {name} is far below "
        f"the ESS {reverse} of the flow's own samples: the flow misses a part of the target (mode collapse); train it "
        "on data of this ensemble too"
        for name, figures in forward.items()
        if figures["collapsed"]
    ]
    return forward, warnings


def _is_independent(group: Replicas) -> bool:
    return (
        not group.weighted
        and not needs_flow(group.sampler["name"], group.sampler)
        and all(file.has_fields for file in group.files)
        and group.n_configs >= _FEWEST_CONFIGS
        and group.n_configs * group.n_chains >= _FEWEST_IN_ALL
    )


def _moves(ensemble: EnsembleSummary) -> bool:
    """Whether the ensemble itself moves between sectors; one that does not is no evidence for a flow."""
    name, rows = ensemble["cost_observable"], ensemble["observables"]
    return not ensemble["frozen"] and name in rows and rows[name]["trusted"]


def _figures(log_w: np.ndarray, flow: Weights, moves: bool) -> ForwardESS:
    """The ESS and a verdict. The reverse ESS of weights with a heavy tail is far too large, so it proves nothing."""
    found = forward_ess(list(log_w.T))
    known = flow["ess"] - 3.0 * flow["ess_error"]
    collapsed = flow["log_z_reliable"] and found.value + 3.0 * found.error < _COLLAPSED * known
    if collapsed:
        verdict = "mode collapse"
    elif not flow["log_z_reliable"]:
        verdict = "weights too uneven to tell"
    else:
        verdict = "passed" if moves else "ensemble hardly moves, tells nothing"
    return {
        "ess": found.value,
        "ess_error": found.error,
        "n_samples": log_w.size,
        "collapsed": collapsed,
        "verdict": verdict,
    }


def _log_weights(group: Replicas, card: Card, flow: Proposer) -> np.ndarray:
    """log w = -S - log q of configurations spread evenly over the first file's chains, (n, n_chains)."""
    file = group.files[0]
    n_chains = min(file.n_chains, _MOST_CHAINS)
    rows = np.unique(np.linspace(group.first, file.n_configs - 1, _MOST_CONFIGS // n_chains).astype(int))
    x = np.concatenate([file.configs(row, row + 1)[:, :n_chains] for row in rows]).astype(np.float64)  # (n, B, *event)
    flat = x.reshape(-1, *file.field.shape)  # (n * B, *event)
    action = card.theory.action.evaluate(flat)
    generator = torch.Generator(device_of(flow)).manual_seed(0)  # for what is random in paths back
    with torch.no_grad():
        log_q = [
            flow.path_log_q(torch.from_numpy(part).to(generator.device), *flow.noise(len(part), generator)).cpu()
            for part in _batches(flat)
        ]
    return (-action - torch.cat(log_q).double().numpy()).reshape(len(rows), n_chains)


def _batches(x: np.ndarray) -> list[np.ndarray]:
    return [x[start : start + _BATCH] for start in range(0, len(x), _BATCH)]
