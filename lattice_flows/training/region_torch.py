"""`region_reinforce` in torch, for devices on which the compiled kernels do not run. It never waits for the device."""

import math

import torch
from torch import Tensor

from lattice_flows.flows import IndependentPlaquettes, PlaquetteTree
from lattice_flows.flows.tree_map import Places, places_of, torch_forward, torch_regions
from lattice_flows.training.region_reinforce import N_KNOTS as N_KNOTS
from lattice_flows.training.region_reinforce import RIDGE as RIDGE
from lattice_flows.training.region_reinforce import STIFFNESS as STIFFNESS

_ALONE = 0.999  # leverage of a sample that no other one comes near


def torch_region_reinforce(z: Tensor, transform: PlaquetteTree, action: IndependentPlaquettes) -> tuple[Tensor, Tensor]:
    """The same numbers as `region_reinforce`, up to rounding."""
    tree, tables = transform.links.tree, transform.links.conditioner.tables()
    places = places_of(tree.shape, tables.odd, z.device)
    with torch.no_grad():
        plaquettes, _ = torch_forward(z.double(), tables, tree)
    regions = torch_regions(plaquettes, tables, tree)  # its log_slopes are log q(u'|s), of the weights alone
    with torch.no_grad():
        earned = _rewards(regions.log_slopes, action.plaquette_terms(plaquettes), places)
        advantages = _advantages(earned, regions.fluxes, places.table, len(tables.odd))
        log_w = -earned[:, 0]
    surrogate = (advantages * regions.log_slopes).sum() / len(z)
    return surrogate - (log_w.mean() + surrogate.detach()), log_w


def _rewards(log_q: Tensor, terms: Tensor, places: Places) -> Tensor:
    """Sums of log_q (B, V - 1) over the regions inside each region and of `terms` (B, V) over its plaquettes.

    Each region is cut at a different place, so that those inside one are the cuts between its ends.
    """
    cuts = terms.new_zeros(terms.shape[0], terms.shape[1] + 1).index_copy(1, places.mid, log_q).cumsum(1)
    sums = torch.nn.functional.pad(terms.cumsum(1), (1, 0))  # (B, V + 1)
    return cuts[:, places.hi - 1] - cuts[:, places.lo] + sums[:, places.hi] - sums[:, places.lo]


def _advantages(earned: Tensor, fluxes: Tensor, table: Tensor, n_splits: int) -> Tensor:
    """The rewards minus the piecewise linear fit in |s| to all others of the split, (B, V - 1)."""
    position = fluxes.abs() * ((N_KNOTS - 1) / math.pi)
    row = position.long().clamp(0, N_KNOTS - 2)
    right = position - row
    left, lower = 1.0 - right, table * N_KNOTS + row  # of the flattened (n_splits, N_KNOTS)

    def summed(at_lower: Tensor, at_upper: Tensor) -> Tensor:
        sums = earned.new_zeros(n_splits * N_KNOTS).index_add(0, lower.flatten(), at_lower.flatten())
        return sums.index_add(0, lower.flatten() + 1, at_upper.flatten()).unflatten(0, (n_splits, N_KNOTS))

    beside = summed(left * right, torch.zeros_like(right))[:, :-1]
    matrices = summed(left * left, right * right).diag_embed() + beside.diag_embed(1) + beside.diag_embed(-1)
    eye = torch.eye(N_KNOTS, dtype=earned.dtype, device=earned.device)
    bends = eye.diff(n=2, dim=0)
    inverses, _ = torch.linalg.inv_ex(matrices + STIFFNESS * bends.T @ bends + RIDGE * eye)
    fits = (inverses @ summed(left * earned, right * earned).unsqueeze(-1)).flatten()

    own = inverses.diagonal(dim1=1, dim2=2).flatten()
    next_ = torch.nn.functional.pad(inverses.diagonal(1, 1, 2), (0, 1)).flatten()
    leverage = left * (left * own[lower] + 2.0 * right * next_[lower]) + right * right * own[lower + 1]
    rest = earned - (left * fits[lower] + right * fits[lower + 1])
    return torch.where(leverage < _ALONE, rest / (1.0 - leverage), torch.zeros_like(rest))
