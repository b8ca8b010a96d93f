"""Symmetry transformations of U(1) link fields (B, D, *lattice_shape). Each returns a new field, not wrapped."""

import torch
from torch import Tensor

from lattice_flows.lattice.geometry import shift


def gauge_transform(links: Tensor, alpha: Tensor) -> Tensor:
    """theta_mu(n) + alpha(n) - alpha(n + mu), for a gauge function alpha (B, *lattice_shape) in radians."""
    return torch.stack([link + alpha - shift(alpha, mu) for mu, link in enumerate(links.unbind(1))], dim=1)


def translate(links: Tensor, offset: tuple[int, ...]) -> Tensor:
    """The field moved by `offset` sites: the new field at n + offset is the old one at n."""
    return torch.roll(links, offset, dims=tuple(range(2, links.ndim)))


def reflect(links: Tensor, mu: int) -> Tensor:
    """The mirror image n_mu -> -n_mu: the link along mu that left n now ends in -n, and changes sign."""
    axis = mu + 2
    mirrored = torch.roll(links.flip(axis), 1, dims=axis)  # site n_mu holds what -n_mu (mod L) held
    along = -torch.roll(mirrored[:, mu], -1, dims=mu + 1)  # the link n -> n + mu is the old one from -n - mu to -n
    return torch.stack([along if nu == mu else mirrored[:, nu] for nu in range(links.shape[1])], dim=1)


def conjugate(links: Tensor) -> Tensor:
    """Charge conjugation, U -> U*: every angle changes sign."""
    return -links
