"""Objectives and the one training loop."""

from lattice_flows.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    FlowWeights,
    load_flow_weights,
    read_checkpoint,
    save_checkpoint,
)
from lattice_flows.training.evaluate import evaluate
from lattice_flows.training.history import Record, read_history
from lattice_flows.training.loop import (
    CHECKPOINT_NAME,
    HISTORY_NAME,
    STOPPED,
    Progress,
    TrainingDiverged,
    TrainingResult,
    train,
)
from lattice_flows.training.objectives import OBJECTIVES, LossEstimate, Scaled, path_gradient, reverse_kl
from lattice_flows.training.settings import TrainingSettings

__all__ = [
    "CHECKPOINT_NAME",
    "HISTORY_NAME",
    "OBJECTIVES",
    "STOPPED",
    "Checkpoint",
    "CheckpointError",
    "FlowWeights",
    "LossEstimate",
    "Progress",
    "Record",
    "Scaled",
    "TrainingDiverged",
    "TrainingResult",
    "TrainingSettings",
    "evaluate",
    "load_flow_weights",
    "path_gradient",
    "read_checkpoint",
    "read_history",
    "reverse_kl",
    "save_checkpoint",
    "train",
]
