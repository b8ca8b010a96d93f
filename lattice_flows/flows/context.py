"""The network of a gauge-equivariant coupling: Wilson loops in, parameters of circle transforms out."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lattice_flows.flows.circle import CircleTransform

_ROUNDING = 0.01  # of sqrt((1 + cos s)/2) = |cos(s/2)| at its corner, s = pi
_LAST_LAYER = 0.1  # its initial size: near the identity, yet no two components alike


class LoopContext(nn.Module):
    """Parameters of the active plaquettes' transforms from the loops around them, the same function at every cell.

    Input: the angles of each cell's pair s (active + passive plaquette, the 2x1 loop that the layer leaves alone) and
    of its two frozen plaquettes f1, f2, in the order passive, active, f1, f2 along nu. A periodic convolution over the
    cells, `kernel` (odd) wide in both directions, and `hidden` layers act on the cosines of loops (and on their sines
    where the circle transform's scalars are not even). They give scalars directly, and amplitudes alpha_j of vectors

        h = alpha_0 (1, 0) + sum_j alpha_j (cos c_j, sin c_j)

    with directions c_j that are loops: s, -f1, s + f2', ... (f' of the cell below). The reason: given s alone the
    active angle a has the density exp(beta (1 + cos s, sin s).(cos a, sin a)) up to a factor, and what earlier layers
    have mixed adds larger loops in the same form. Under charge conjugation cosines are even and the vectors turn
    into their mirror images, so that a map without other odd parameters commutes with it.
    """

    n_directions = 5

    def __init__(self, circle: CircleTransform, hidden: tuple[int, ...], kernel: int) -> None:
        super().__init__()
        self.n_scalars, self.n_vectors = circle.n_scalars, circle.n_vectors
        self.kernel, self.with_sines = kernel, not circle.even_scalars
        n_features = self.n_directions + 2 + self.n_directions * self.with_sines
        widths = [n_features * kernel**2, *hidden, self.n_scalars + self.n_vectors * (1 + self.n_directions)]
        self.weights = nn.ParameterList([torch.zeros(n_out, n_in) for n_in, n_out in pairwise(widths)])
        self.biases = nn.ParameterList([torch.zeros(n_out) for n_out in widths[1:]])

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights anew: variance 1/n_in, the last layer smaller."""
        last = len(self.weights) - 1
        with torch.no_grad():
            for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
                size = _LAST_LAYER if layer == last else 1.0
                weight.normal_(0.0, size / math.sqrt(weight.shape[1]), generator=generator)
                bias.normal_(0.0, 0.5 * _LAST_LAYER, generator=generator) if layer == last else bias.zero_()

    def forward(self, pair: Tensor, f1: Tensor, f2: Tensor) -> Tensor:
        """Parameters (B, L_mu, cells, n_scalars + 2 n_vectors), in the dtype of the loops (B, L_mu, cells).

        Inside, channels come first: one contiguous (B, L_mu, cells) each makes short work of the many small sums.
        """
        below = pair + f2.roll(1, 2)
        directions = [pair, -f1, below, -(f1 + f2), below + f1.roll(1, 2)]
        angles = torch.stack([*directions, f2])  # (n_directions + 1, B, L_mu, cells)
        cos, sin = torch.cos(angles), torch.sin(angles[:-1])
        corner = torch.sqrt((0.5 + _ROUNDING) + 0.5 * cos[:1])
        output = self._network(torch.cat([cos, corner, sin] if self.with_sines else [cos, corner])).to(pair.dtype)
        scalars, amplitudes = output.split([self.n_scalars, output.shape[0] - self.n_scalars])
        amplitudes = amplitudes.unflatten(0, (self.n_vectors, -1))  # (n_vectors, 1 + n_directions, B, L_mu, cells)
        turning = amplitudes[:, 1:]
        u = amplitudes[:, 0] + (turning * cos[:-1]).sum(1)
        v = (turning * sin).sum(1)
        return torch.cat([scalars, u, v]).movedim(0, -1)

    def _network(self, features: Tensor) -> Tensor:
        """(n_features, B, L_mu, cells) -> (n_scalars + n_amplitudes, B, L_mu, cells)."""
        x = _neighbourhood(features.to(self.weights[0].dtype), self.kernel).flatten(1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1]):
            x = functional.silu(torch.addmm(bias.unsqueeze(1), weight, x))
        return torch.addmm(self.biases[-1].unsqueeze(1), self.weights[-1], x).unflatten(1, features.shape[1:])


def _neighbourhood(features: Tensor, kernel: int) -> Tensor:
    """Each cell's features and those of its kernel x kernel periodic neighbours: (C kernel^2, B, L_mu, cells)."""
    reach = range(-(kernel // 2), kernel // 2 + 1)
    for axis in (2, 3):
        features = torch.cat([features.roll(step, axis) if step else features for step in reach])
    return features
