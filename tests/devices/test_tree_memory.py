"""The torch form of a region tree, which GPUs use, holds a few numbers per region, however fine its tables are."""

import pytest
import torch
from devices.watch import Watch

from lattice_flows.flows import multiscale
from lattice_flows.flows.tree_map import TreeTables, torch_forward, torch_inverse
from lattice_flows.theories import WilsonU1

B = 100


@pytest.mark.parametrize("function", [torch_forward, torch_inverse])
def test_memory(function) -> None:
    flow = multiscale((16, 16), WilsonU1(2.0), conditioner="exact", n_bins=64, n_knots=9)
    splines, odd = flow.transform.conditioner.tables()
    tables = TreeTables(splines.requires_grad_(True), odd)
    angles = 0.1 * torch.ones(B, flow.transform.tree.leaves.size - (function is torch_forward), dtype=torch.float64)
    with Watch("cpu", largest=3 * angles.numel()) as watch:
        end, log_det = function(angles.requires_grad_(True), tables, flow.transform.tree)
        (end.sum() + log_det.sum()).backward()
    assert watch.double == []
    assert splines.numel() < 3 * angles.numel() < B * 255 * splines.shape[-1], "whole rows of the tables would show"
    assert watch.looks == []
