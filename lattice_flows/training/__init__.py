"""Objectives and the one training loop."""

from lattice_flows.training.catalogue import OBJECTIVES, build_objective, needs_of
from lattice_flows.training.checkpoint import (
    CHECKPOINT_NAME,
    Checkpoint,
    CheckpointError,
    FlowWeights,
    completed_header,
    load_flow_weights,
    n_parameters,
    read_checkpoint,
    save_checkpoint,
)
from lattice_flows.training.data import DataError, check_configurations
from lattice_flows.training.evaluate import evaluate, evaluate_on
from lattice_flows.training.forward_objectives import ForwardKL, Mixture, SelfNormalised
from lattice_flows.training.history import HISTORY_NAME, Record, history_of, read_history
from lattice_flows.training.importance_weighted import ImportanceWeighted
from lattice_flows.training.latent_buffer import LatentBuffer
from lattice_flows.training.log_variance import LogVariance
from lattice_flows.training.loop import (
    STOPPED,
    Progress,
    TrainingDiverged,
    TrainingResult,
    train,
)
from lattice_flows.training.objectives import (
    LossEstimate,
    Objective,
    path_gradient,
    reinforce,
    reverse_kl,
)
from lattice_flows.training.ranks import (
    ALONE,
    FailedOnFirstRank,
    LaunchError,
    RankLost,
    Ranks,
    TooManyRanks,
    joined,
    launched_ranks,
)
from lattice_flows.training.recommended import FORMERLY, recommended, recommended_then
from lattice_flows.training.resumable import check_same, has_ended, is_rescheduled, settings_as_begun
from lattice_flows.training.sample_buffer import SampleBuffer
from lattice_flows.training.settings import TrainingSettings
from lattice_flows.training.source import Drawn, Source
from lattice_flows.training.validate import MAX_ROUND_TRIP, Validation, round_trip, validate

__all__ = [
    "ALONE",
    "CHECKPOINT_NAME",
    "FORMERLY",
    "HISTORY_NAME",
    "MAX_ROUND_TRIP",
    "OBJECTIVES",
    "STOPPED",
    "Checkpoint",
    "CheckpointError",
    "DataError",
    "Drawn",
    "FailedOnFirstRank",
    "FlowWeights",
    "ForwardKL",
    "ImportanceWeighted",
    "LatentBuffer",
    "LaunchError",
    "LogVariance",
    "LossEstimate",
    "Mixture",
    "Objective",
    "Progress",
    "RankLost",
    "Ranks",
    "Record",
    "SampleBuffer",
    "SelfNormalised",
    "Source",
    "TooManyRanks",
    "TrainingDiverged",
    "TrainingResult",
    "TrainingSettings",
    "Validation",
    "build_objective",
    "check_configurations",
    "check_same",
    "completed_header",
    "evaluate",
    "evaluate_on",
    "has_ended",
    "history_of",
    "is_rescheduled",
    "joined",
    "launched_ranks",
    "load_flow_weights",
    "n_parameters",
    "needs_of",
    "path_gradient",
    "read_checkpoint",
    "read_history",
    "recommended",
    "recommended_then",
    "reinforce",
    "reverse_kl",
    "round_trip",
    "save_checkpoint",
    "settings_as_begun",
    "train",
    "validate",
]
