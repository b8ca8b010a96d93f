"""The network of a gauge-equivariant coupling: Wilson loops in, parameters of circle transforms out."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lattice_flows.flows.circle_transform import CircleTransform
from lattice_flows.flows.mask_pattern import MaskPattern
from lattice_flows.flows.network_dtype import network_dtype

_ROUNDING = 0.01  # of sqrt((1 + cos s)/2) = |cos(s/2)| at its corner, s = pi


class LoopContext(nn.Module):
    """Parameters of the active plaquettes' transforms from the loops around them, the same function at every cell.

    Input: the angles of each cell's pair s (active + passive plaquette, the 2x1 loop that the layer leaves alone) and
    of its frozen plaquettes. A network of widths `hidden`, residual where two neighbours are equal, acts on the cosines
    of the pattern's loops, and on their sines where the circle transform's scalars are not even. It returns scalars,
    and amplitudes alpha_j of vectors

        h = alpha_0 (1, 0) + sum_j alpha_j (cos c_j, sin c_j)

    whose directions c_j are the pattern's loops: s, -f, s + f', ... The reason: at fixed s and f the active angle a of
    any action of Wilson loops up to 2x1 has the density exp[h.(cos a, sin a)] with constant alpha, up to a factor; and
    what earlier layers have mixed adds larger loops in the same form.

    Under charge conjugation cosines are even and the vectors turn into their mirror images. Scalars that are not even
    are averaged with the mirror image of those of the conjugate field, so that every map commutes with it. `last_layer`
    is the initial size of the last layer: near the identity, but with no two components alike.
    """

    combinations: Tensor

    def __init__(
        self, circle: CircleTransform, pattern: MaskPattern, hidden: tuple[int, ...], last_layer: float
    ) -> None:
        super().__init__()
        self.circle, self.n_directions, self.last_layer = circle, len(pattern.loops), last_layer
        self.register_buffer("combinations", pattern.combinations(), persistent=False)
        n_features = len(self.combinations) + 1 + self.n_directions * (not circle.even_scalars)
        widths = [n_features, *hidden, circle.n_scalars + circle.n_vectors * (1 + self.n_directions)]
        self.weights = nn.ParameterList([torch.zeros(n_out, n_in) for n_in, n_out in pairwise(widths)])
        self.biases = nn.ParameterList([torch.zeros(n_out) for n_out in widths[1:]])

    def initialise(self, generator: torch.Generator) -> None:
        """Redraw the weights: variance 1/n_in, the last layer smaller."""
        last = len(self.weights) - 1
        with torch.no_grad():
            for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
                size = self.last_layer if layer == last else 1.0
                weight.normal_(0.0, size / math.sqrt(weight.shape[1]), generator=generator)
                bias.normal_(0.0, 0.5 * size, generator=generator) if layer == last else bias.zero_()

    def forward(self, pair: Tensor, frozen: Tensor) -> Tensor:
        """Parameters (cells, B, n_scalars + 2 n_vectors), in the dtype of the angles.

        pair: (cells, B), frozen: (n_frozen * cells, B). Inside, channels come first: one contiguous (cells, B) each
        makes short work of the many small sums.
        """
        known = torch.cat([pair, frozen]).view(-1, pair.numel())  # (1 + n_frozen, cells B)
        angles = self.combinations.to(known.dtype) @ known
        cos, sin = torch.cos(angles), torch.sin(angles[: self.n_directions])
        even = torch.cat([cos, torch.sqrt((0.5 + _ROUNDING) + 0.5 * cos[:1])])
        scalars, amplitudes = self._outputs(even, sin)
        turning = amplitudes[:, 1:]  # (n_vectors, n_directions, cells B)
        u = amplitudes[:, 0] + (turning * cos[: self.n_directions]).sum(1)
        v = (turning * sin).sum(1)
        return torch.cat([scalars, u, v]).unflatten(1, pair.shape).movedim(0, -1)

    def _outputs(self, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        """Scalars (n_scalars, cells B), and amplitudes (n_vectors, 1 + n_directions, cells B), which are even."""
        if self.circle.even_scalars:
            output = self._network(even)
        else:
            output, conjugate = (self._network(torch.cat([even, sign * odd])) for sign in (1.0, -1.0))
            mirrored = self.circle.mirror(conjugate[: self.circle.n_scalars])
            output = 0.5 * (output + torch.cat([mirrored, conjugate[self.circle.n_scalars :]]))
        scalars, amplitudes = output.split([self.circle.n_scalars, output.shape[0] - self.circle.n_scalars])
        return scalars, amplitudes.unflatten(0, (self.circle.n_vectors, -1))

    def _network(self, features: Tensor) -> Tensor:
        """(n_features, cells B) -> (n_scalars + n_amplitudes, cells B), in the dtype of the features."""
        dtype = network_dtype(self.weights[0])
        weights, biases = ([tensor.to(dtype) for tensor in tensors] for tensors in (self.weights, self.biases))
        x = features.to(dtype)
        for weight, bias in zip(weights[:-1], biases[:-1]):
            y = functional.silu(torch.addmm(bias.unsqueeze(1), weight, x))
            x = x + y if len(x) == len(y) else y
        return torch.addmm(biases[-1].unsqueeze(1), weights[-1], x).to(features.dtype)
