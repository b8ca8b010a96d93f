"""Shifts, plaquettes and loops of U(1) link fields on a periodic lattice of any dimension D >= 2.

Links are angles ``theta`` of shape (B, D, *lattice_shape); ``theta[:, mu]`` is the link from n to n + mu. Every loop
is the sum of the angles along it, not wrapped.
"""

import torch
from torch import Tensor

from lattice_flows.lattice.spaces import CIRCLE, TWO_PI


def shift(field: Tensor, mu: int, steps: int = 1) -> Tensor:
    """The field at n + steps * mu; field (B, *lattice_shape), mu counts lattice axes."""
    return torch.roll(field, -steps, dims=mu + 1)


def plaquette(links: Tensor, mu: int, nu: int) -> Tensor:
    """P_munu(n) = theta_mu(n) + theta_nu(n+mu) - theta_mu(n+nu) - theta_nu(n), shape (B, *lattice_shape)."""
    return wilson_loop(links, mu, nu, 1, 1)


def plaquette_transpose(by_plaquettes: Tensor) -> Tensor:
    """The derivatives with respect to 2D links, (B, 2, L0, L1), from those with respect to P_01, (B, L0, L1)."""
    behind = [shift(by_plaquettes, mu, -1) for mu in (0, 1)]
    return torch.stack([by_plaquettes - behind[1], behind[0] - by_plaquettes], 1)


def wilson_line(links: Tensor, mu: int, length: int) -> Tensor:
    """The sum of `length` links along mu from n, shape (B, *lattice_shape). Lengths beyond the lattice wind around it.

    Raises ValueError for a length below 1.
    """
    if length < 1:
        raise ValueError(f"a line has at least one link, got length {length}")
    link = links[:, mu]
    line = link
    for step in range(1, length):
        line = line + shift(link, mu, step)
    return line


def wilson_loop(links: Tensor, mu: int, nu: int, r: int, t: int) -> Tensor:
    """The angle of the r x t rectangle from n, r links along mu and t along nu, shape (B, *lattice_shape)."""
    bottom, side = wilson_line(links, mu, r), wilson_line(links, nu, t)
    return bottom + shift(side, mu, r) - shift(bottom, nu, t) - side


def polyakov_loop(links: Tensor, mu: int) -> Tensor:
    """The angle of the line that closes around axis mu, shape (B, *lattice_shape without axis mu)."""
    return links[:, mu].sum(dim=mu + 1)


def topological_charge(links: Tensor) -> Tensor:
    """Q = (1/2pi) sum_P wrap(P) of a 2D field (B, 2, L0, L1), shape (B,): an integer up to rounding.

    Raises ValueError for a field that is not two-dimensional.
    """
    if links.ndim != 4 or links.shape[1] != 2:
        raise ValueError(f"the charge needs 2D links (B, 2, L0, L1), got shape {tuple(links.shape)}")
    return CIRCLE.wrap(plaquette(links, 0, 1)).sum(dim=(1, 2)) / TWO_PI
