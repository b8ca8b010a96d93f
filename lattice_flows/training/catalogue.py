"""The objectives by the names of a run card."""

from typing import get_args

import torch

import lattice_flows.training.stochastic_paths
import lattice_flows.training.symmetrised_paths  # noqa: F401  (and of symmetrised ones)
from lattice_flows.flows import Ability, Proposer
from lattice_flows.theories.collective import CollectiveVariable
from lattice_flows.training.forward_objectives import ForwardKL, Mixture, SelfNormalised
from lattice_flows.training.importance_weighted import ImportanceWeighted
from lattice_flows.training.latent_buffer import LatentBuffer
from lattice_flows.training.log_variance import LogVariance
from lattice_flows.training.objectives import REVERSE_OBJECTIVES, Objective
from lattice_flows.training.ranks import ALONE, Ranks
from lattice_flows.training.reaction_coordinate import WithReactionCoordinate
from lattice_flows.training.reweighted_buffer import ReweightedBuffer
from lattice_flows.training.sample_buffer import SampleBuffer
from lattice_flows.training.settings import ObjectiveName, TrainingSettings
from lattice_flows.training.source import Source

OBJECTIVES = get_args(ObjectiveName)


def needs_of(settings: TrainingSettings) -> frozenset[Ability]:
    """What the objective of these settings asks of a flow."""
    needed = {name: one.needs for name, one in REVERSE_OBJECTIVES.items()}
    needed["dreg"] = ImportanceWeighted.needs
    needed["log_variance"] = LogVariance.needs
    needed["self_normalised"] = SelfNormalised.needs
    needed["forward_kl"] = ForwardKL.needs
    needed["mixture"] = ForwardKL.needs | needed[settings.mixture_reverse] | {"inverse"}
    return needed[settings.objective]


def build_objective(
    settings: TrainingSettings,
    flow: Proposer,
    data: Source | None,
    dtype: torch.dtype,
    device: torch.device,
    ranks: Ranks = ALONE,
    variable: CollectiveVariable | None = None,
) -> Objective:
    """The objective that the settings ask for. `data` and the `variable` are given if the settings name them."""
    if data is not None and settings.latent_moves > 0:
        data = LatentBuffer(data, settings.buffer_size, settings.latent_moves, settings.latent_time, ranks)
    objective = _divergence(settings, flow, data, dtype, device, ranks)
    if settings.reaction_range is None:
        return objective
    assert variable is not None
    return WithReactionCoordinate(objective, variable, *settings.reaction_range, settings.reaction_weight)


def _divergence(
    settings: TrainingSettings,
    flow: Proposer,
    data: Source | None,
    dtype: torch.dtype,
    device: torch.device,
    ranks: Ranks,
) -> Objective:
    name = settings.objective
    if name in REVERSE_OBJECTIVES:
        return REVERSE_OBJECTIVES[name]
    if name == "dreg":
        return ImportanceWeighted(settings.group_size)
    if name == "log_variance":
        return LogVariance(data)
    if name == "self_normalised":
        kind = SampleBuffer if settings.anneal == 0.0 else ReweightedBuffer
        return SelfNormalised(kind(settings.buffer_size, flow.prior.shape, dtype, device, ranks))
    assert data is not None
    forward = ForwardKL(data)
    if name == "forward_kl":
        return forward
    reverse = REVERSE_OBJECTIVES[settings.mixture_reverse]
    return Mixture(reverse, forward, settings.mixture_weights[0], settings.mixture_weights[1])
