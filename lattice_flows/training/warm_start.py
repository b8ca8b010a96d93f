"""A training that starts from the weights of another: of a smaller lattice, or at another coupling."""

from pathlib import Path
from typing import Any

import torch

from lattice_flows.differences import differences, few
from lattice_flows.flows import Proposer
from lattice_flows.training.checkpoint import CheckpointError, completed_header, load_flow_weights


def inherit(flow: Proposer, path: Path, header: dict[str, Any]) -> str:
    """Give the flow the averaged weights of the checkpoint at `path`; returns their checksum.

    Theory name and flow table of both headers must be equal; shape and couplings may differ. Parameters are matched by
    name. Those that the parent lacks, such as further levels of a tree on a larger lattice, keep the flow's own initial
    weights. Raises CheckpointError for a checkpoint of another theory or flow, or whose weights do not fit.
    """
    parent = load_flow_weights(path)
    theirs = completed_header(parent.header)
    own, held = _name(header), _name(theirs)
    if own != held:
        raise CheckpointError(f"{path}: cannot start from it: it is of the theory {held}, this is {own}")
    if told := differences(header.get("flow") or {}, theirs.get("flow") or {}, "flow", ("here", "there")):
        raise CheckpointError(f"{path}: cannot start from it: it is of another flow ({few(told)})")
    common = {name: weight for name, weight in flow.named_parameters() if name in parent.weights}
    if not common:
        raise CheckpointError(f"{path}: cannot start from it: it has no weight in common with this flow")
    for name, weight in common.items():
        if weight.shape != parent.weights[name].shape:
            shapes = f"{list(parent.weights[name].shape)}, not {list(weight.shape)}"
            raise CheckpointError(f"{path}: cannot start from it: its {name} has the shape {shapes}")
    with torch.no_grad():
        for name, weight in common.items():
            weight.copy_(parent.weights[name])
    return parent.sha256


def _name(header: dict[str, Any]) -> Any:
    return header.get("theory", {}).get("name")
