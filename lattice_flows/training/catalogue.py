"""The objectives by the names of a run card."""

from typing import get_args

import torch

from lattice_flows.flows import Flow
from lattice_flows.training.data import DataSource
from lattice_flows.training.forward_objectives import ForwardKL, Mixture, SelfNormalised
from lattice_flows.training.objectives import REVERSE_OBJECTIVES, Objective
from lattice_flows.training.ranks import ALONE, Ranks
from lattice_flows.training.sample_buffer import SampleBuffer
from lattice_flows.training.settings import ObjectiveName, TrainingSettings

OBJECTIVES = get_args(ObjectiveName)


def build_objective(
    settings: TrainingSettings,
    flow: Flow,
    data: DataSource | None,
    dtype: torch.dtype,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> Objective:
    """The objective that the settings ask for. `data` is given if the settings name some."""
    name = settings.objective
    if name in REVERSE_OBJECTIVES:
        return REVERSE_OBJECTIVES[name]
    if name == "self_normalised":
        return SelfNormalised(SampleBuffer(settings.buffer_size, flow.prior.shape, dtype, device), ranks)
    assert data is not None
    forward = ForwardKL(data)
    if name == "forward_kl":
        return forward
    reverse = REVERSE_OBJECTIVES[settings.mixture_reverse]
    return Mixture(reverse, forward, settings.mixture_weights[0], settings.mixture_weights[1])
