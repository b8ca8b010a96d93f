"""The objects that the tables of a card describe."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lattice_flows.card.card import Card, FlowTable, TheoryTable
from lattice_flows.catalogue import PluginError
from lattice_flows.ensembles import FieldSpec
from lattice_flows.errors import InputError
from lattice_flows.flows import Proposer, initialise
from lattice_flows.theories.action import Action
from lattice_flows.theories.catalogue import THEORIES
from lattice_flows.training import completed_header, load_flow_weights


def field_spec(theory: TheoryTable, dtype: str | None = None) -> FieldSpec:
    """The format in which configurations of the theory are stored, in their own dtype unless another is given."""
    field = theory.action.field(theory.shape)
    return field if dtype is None else replace(field, dtype=dtype)


def couplings_of(theory: Mapping[str, Any]) -> dict[str, Any]:
    """The couplings among the entries of a [theory] table."""
    return {key: value for key, value in theory.items() if key not in ("name", "shape", "boundary")}


def lattice_shape_of(theory: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of the lattice of a [theory] table, () where there is none."""
    return tuple(theory.get("shape", ()))


def action_of(theory: Mapping[str, Any]) -> Action | None:
    """The action of a [theory] table; None if its code is not installed, or is named on a card that is not in hand."""
    try:
        return THEORIES[theory["name"]](**couplings_of(theory))
    except (KeyError, PluginError):
        return None


def closed_forms_of(theory: Mapping[str, Any]) -> Any:
    """The closed forms of a [theory] table, or None."""
    action = action_of(theory)
    return action.closed_forms(lattice_shape_of(theory)) if action else None


def build_flow(card: Card, device: torch.device) -> Proposer:
    """A new copy of the card's flow before training, its weights drawn from the card's seed."""
    flow = _copy(card.flow)
    initialise(flow, torch.Generator().manual_seed(card.seed))
    return flow.to(device)


def flow_header(card: Card) -> dict[str, Any]:
    """The entries by which a checkpoint identifies its theory and flow."""
    assert card.flow is not None
    return {"theory": card.theory.as_dict(), "flow": card.flow.as_dict()}


def load_flow(card: Card, checkpoint: Path, device: torch.device) -> tuple[Proposer, str]:
    """A new copy of the card's trained flow, and the checksum of its weights.

    Raises InputError for a checkpoint of another theory or flow, CheckpointError for one that cannot be read.
    """
    trained = load_flow_weights(checkpoint)
    header = completed_header(trained.header)
    for key, wanted in flow_header(card).items():
        if (held := header.get(key)) != wanted:
            raise InputError(f"{checkpoint}: was trained for {key} = {held}, but the card has {wanted}")
    flow = _copy(card.flow).to(device)
    try:
        flow.load_state_dict(trained.weights)
    except RuntimeError:
        raise InputError(f"{checkpoint}: the weights do not fit the flow named in the file") from None
    return flow.requires_grad_(False), trained.sha256


def _copy(table: FlowTable | None) -> Proposer:
    """A copy of the card's flow, as training or any other use may change, compile or move its weights."""
    assert table is not None
    return copy.deepcopy(table.built_flow)
