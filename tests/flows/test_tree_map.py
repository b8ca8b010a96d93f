"""The compiled map of a region tree against its torch form, gradients included."""

import math

import pytest
import torch
from torch import Tensor

from lattice_flows.flows.conditioners import NetworkConditioner
from lattice_flows.flows.tree import RegionTree
from lattice_flows.flows.tree_map import (
    TreeTables,
    torch_forward,
    torch_inverse,
    tree_forward,
    tree_inverse,
    tree_score,
)

pytestmark = pytest.mark.quick

SHAPES = pytest.mark.parametrize("shape", [(4, 4), (6, 4), (3, 5), (2, 7), (1, 2), (6, 10), (16, 8)])
N = 7


def _tables(tree: RegionTree, generator: torch.Generator) -> TreeTables:
    """Splines far from the identity, another one for every |s|."""
    conditioner = NetworkConditioner(tree.splits, n_bins=5, n_knots=9, hidden=(8,))
    with torch.no_grad():
        for weight in conditioner.parameters():
            weight.normal_(0.0, 0.4, generator=generator)
    splines, odd = conditioner.tables()
    return TreeTables(splines.detach().requires_grad_(True), odd)


def _angles(n: int, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(N, n, generator=generator, dtype=torch.float64)
    return (math.pi * (2.0 * uniform - 1.0)).requires_grad_(True)


def _plaquettes(tree: RegionTree, tables: TreeTables, generator: torch.Generator) -> Tensor:
    with torch.no_grad():
        return tree_forward(_angles(len(tree.nodes), generator), tables, tree)[0].requires_grad_(True)


def _assert_equal(compiled: tuple[Tensor, ...], expected: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> None:
    """Values, and the gradients of one random linear function of them, to 1e-12 of their size."""
    generator = torch.Generator().manual_seed(1)
    totals = []
    for outputs in (compiled, expected):
        generator.manual_seed(1)
        weights = [torch.randn(value.shape, generator=generator, dtype=torch.float64) for value in outputs]
        totals.append(sum((weight * value).sum() for weight, value in zip(weights, outputs)))
    for value, other in zip(compiled, expected):
        torch.testing.assert_close(value, other, atol=1e-12, rtol=1e-12)
    for gradient, other in zip(*(torch.autograd.grad(total, inputs) for total in totals)):
        scale = float(other.abs().max().clamp_min(1.0))
        torch.testing.assert_close(gradient / scale, other / scale, atol=1e-12, rtol=0)
        assert other.abs().max() > 0.01


@SHAPES
def test_forward(shape: tuple[int, int], generator: torch.Generator) -> None:
    tree = RegionTree(shape)
    tables, shares = _tables(tree, generator), _angles(len(tree.nodes), generator)
    expected = torch_forward(shares, tables, tree)
    _assert_equal(tree_forward(shares, tables, tree), expected, (shares, tables.splines))


@SHAPES
def test_inverse(shape: tuple[int, int], generator: torch.Generator) -> None:
    tree = RegionTree(shape)
    tables = _tables(tree, generator)
    plaquettes = _plaquettes(tree, tables, generator)
    expected = torch_inverse(plaquettes, tables, tree)
    _assert_equal(tree_inverse(plaquettes, tables, tree), expected, (plaquettes, tables.splines))


@SHAPES
def test_inverse_undoes_forward(shape: tuple[int, int], generator: torch.Generator) -> None:
    tree = RegionTree(shape)
    tables, shares = _tables(tree, generator), _angles(len(tree.nodes), generator)
    with torch.no_grad():
        plaquettes, log_det = tree_forward(shares, tables, tree)
        back, inverse_log_det = tree_inverse(plaquettes, tables, tree)
    turns = plaquettes.sum(1) / (2.0 * math.pi)
    torch.testing.assert_close(turns, turns.round(), atol=1e-13, rtol=0)
    torch.testing.assert_close(back, shares, atol=1e-9, rtol=0)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-8, rtol=0)
    assert log_det.abs().min() > 1e-3


@SHAPES
def test_score_is_the_gradient_of_the_inverse(shape: tuple[int, int], generator: torch.Generator) -> None:
    tree = RegionTree(shape)
    tables, shares = _tables(tree, generator), _angles(len(tree.nodes), generator)
    plaquettes, log_det, score = tree_score(shares, tables, tree)
    _assert_equal((plaquettes, log_det), torch_forward(shares, tables, tree), (shares, tables.splines))
    end = plaquettes.detach().requires_grad_(True)
    (expected,) = torch.autograd.grad(torch_inverse(end, tables, tree)[1].sum(), end)
    torch.testing.assert_close(score, expected, atol=1e-7, rtol=1e-7)
    assert not score.requires_grad


def test_log_det_is_that_of_the_jacobian(generator: torch.Generator) -> None:
    tree = RegionTree((3, 4))
    tables, shares = _tables(tree, generator), _angles(11, generator)[:1]
    jacobian = torch.autograd.functional.jacobian(lambda z: tree_forward(z, tables, tree)[0][0, :-1], shares)
    sign, expected = torch.linalg.slogdet(jacobian[:, 0])
    log_det = tree_forward(shares, tables, tree)[1][0]
    assert sign.abs() == 1
    torch.testing.assert_close(log_det, expected, atol=1e-10, rtol=0)
    assert log_det.abs() > 0.1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_so(bad: float, generator: torch.Generator) -> None:
    """An angle that is wrapped, and a fast logarithm, would make a number of it."""
    tree = RegionTree((4, 4))
    tables = _tables(tree, generator)
    with torch.no_grad():
        shares, plaquettes = _angles(15, generator), _plaquettes(tree, tables, generator)
        shares[1, 3] = plaquettes[1, 5] = bad
        forward, inverse = tree_forward(shares, tables, tree)[1], tree_inverse(plaquettes, tables, tree)[1]
        broken = TreeTables(torch.full_like(tables.splines, math.nan), tables.odd)
        nowhere = tree_forward(shares, broken, tree)[1]
    for log_det in (forward, inverse):
        assert log_det.isnan().tolist() == [row == 1 for row in range(N)]
    assert nowhere.isnan().all()
