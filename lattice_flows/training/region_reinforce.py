"""The score-function gradient of a region tree, in which each region is judged by its own terms alone."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.flows import IndependentPlaquettes, PlaquetteTree
from lattice_flows.theories.u1.kernels import tree as tree_u1
from lattice_flows.theories.u1.kernels import tree_rewards

N_KNOTS = 33  # of the baselines, from |s| = 0 to pi
RIDGE = 1e-9
STIFFNESS = 0.1  # of the penalty on second differences: settles the knots that no sample comes near


def region_reinforce(z: Tensor, transform: PlaquetteTree, action: IndependentPlaquettes) -> tuple[Tensor, Tensor]:
    """The loss -mean(log_w) at n latent shares z (n, V - 1), whose backward() is the gradient described here; and
    log_w (n,).

    Where plaquettes are independent, the share of a region with flux s neither affects what lies outside it nor is
    affected by it. So its parameters need only the terms f_i of f = log q + S inside the region, and

        grad KL = E sum_i [f_i - b_i(s_i)] grad log q(u'_i | s_i)

    is unbiased with any baseline b_i of the flux: here a piecewise linear fit to all other f_i of the same split, as
    the leave-one-out mean is in `reinforce`. The noise of a small region is that of few plaquettes, whatever the
    volume, and vanishes where q = p, since f_i is then a function of s_i. A region whose flux is near no other's has no
    such fit and does not count. This is for CPUs; see `torch_region_reinforce` for other devices.
    """
    tree = transform.links.tree
    splines, odd = transform.links.conditioner.tables()
    arrays = splines.detach().numpy(), np.array(odd), tree.nodes
    n, shares = len(z), z.double().numpy()
    plaquettes, log_slopes, fluxes = tree_u1.forward(shares, *arrays)
    terms = action.plaquette_terms(torch.from_numpy(plaquettes)).numpy()
    earned = tree_rewards.rewards(-log_slopes, terms, tree.nodes)
    weights = _advantages(earned, fluxes, tree.nodes, len(odd)) / n
    gradient = tree_u1.density_gradient(shares, fluxes, *arrays, weights).sum(0)
    log_w = torch.from_numpy(-earned[:, 0].copy())
    return _WithGradient.apply(splines, torch.from_numpy(gradient), -log_w.mean()), log_w


def _advantages(
    earned: NDArray[np.float64], fluxes: NDArray[np.float64], nodes: NDArray[np.int32], n_splits: int
) -> NDArray[np.float64]:
    """f_i minus its baseline, (n, V - 1)."""
    matrices, sides = tree_rewards.normal_equations(earned, fluxes, nodes, n_splits, N_KNOTS)
    bends = np.diff(np.eye(N_KNOTS), 2, axis=0)
    inverses = np.linalg.inv(matrices + STIFFNESS * bends.T @ bends + RIDGE * np.eye(N_KNOTS))
    fits = (inverses @ sides[..., None])[..., 0]
    return tree_rewards.advantages(earned, fluxes, nodes, fits, inverses)


class _WithGradient(torch.autograd.Function):
    """A number that has a given gradient with respect to x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return g * ctx.saved_tensors[0], None, None
