"""Gradients through many transforms in bounded memory."""

import pytest
import torch
from devices.registry import PAIR_NAMES, Pair, pair_named
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from lattice_flows.flows import Flow, LatentAction, Pullback, plaquette_coupling
from lattice_flows.flows import pullback as pullback_module
from lattice_flows.flows.kept import Kept, forward_keeping_little
from lattice_flows.theories import WilsonU1

KEPT_LITTLE = 0  # bytes: all is computed again


def _pair(name: str) -> tuple[Pair, Tensor]:
    pair = pair_named(name)
    pair.flow.double().requires_grad_(False)
    return pair, pair.flow.prior.sample(3, torch.Generator().manual_seed(1))


def _bounded(monkeypatch: pytest.MonkeyPatch, most_bytes: int) -> None:
    monkeypatch.setattr(
        pullback_module, "forward_keeping_little", lambda *arguments: forward_keeping_little(*arguments, most_bytes)
    )


@pytest.mark.parametrize("name", PAIR_NAMES)
def test_forces_are_the_same_to_the_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, z = _pair(name)
    actions = [Pullback(pair.action, pair.flow.transform), LatentAction(pair.action, pair.flow, float("inf"))]
    found = [action.force(z) for action in actions]
    _bounded(monkeypatch, KEPT_LITTLE)
    for action, force in zip(actions, found):
        assert torch.equal(action.force(z), force)
        assert force.abs().max() > 1e-3


def _recomputed(flow: Flow, most_bytes: int) -> tuple[int, int]:
    """How many transforms are computed again, and the bytes that autograd keeps of these."""
    kept, z = Kept(), flow.prior.sample(8, torch.Generator().manual_seed(1)).requires_grad_(True)
    with saved_tensors_hooks(kept.add, lambda tensor: tensor):  # those of the others are counted within
        x, _ = forward_keeping_little(flow.transform, z, most_bytes)
    nodes, seen = [x.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [before for before, _ in node.next_functions]
    return sum("Recomputed" in node.name() for node in seen), kept.n_bytes


def test_what_is_kept_does_not_grow_with_the_number_of_layers() -> None:
    """But for the links between the couplings, of four layers each."""
    few, many = (plaquette_coupling((8, 8), n_layers=n).double().requires_grad_(False) for n in (16, 64))
    all_of_few, z = Kept(), few.prior.sample(8, torch.Generator().manual_seed(1)).requires_grad_(True)
    with saved_tensors_hooks(all_of_few.add, lambda tensor: tensor):
        few.transform.forward(z)
    links = z.numel() * 8
    assert all_of_few.n_bytes > 50 * links
    assert _recomputed(many, KEPT_LITTLE) == (16, 16 * links)
    assert _recomputed(many, all_of_few.n_bytes - 1) == (12, 12 * links)
    assert _recomputed(many, 2**40) == (0, 0)


def test_parameters_that_need_a_gradient_have_theirs() -> None:
    flow = plaquette_coupling((4, 4), n_layers=8).double()
    z = flow.prior.sample(3, torch.Generator().manual_seed(1)).requires_grad_(True)
    weights = list(flow.parameters())
    found = []
    for most_bytes in (KEPT_LITTLE, 2**40):
        x, log_det = forward_keeping_little(flow.transform, z, most_bytes)
        found.append(torch.autograd.grad(WilsonU1(2.0)(x).sum() - log_det.sum(), weights))
    assert all(torch.equal(one, other) for one, other in zip(*found))
