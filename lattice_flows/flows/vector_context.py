"""The network of a coupling of vectors: frozen coordinates in, parameters of line transforms out."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lattice_flows.flows.network_dtype import network_dtype


class VectorContext(nn.Module):
    """Even and odd parameters of the active coordinates' maps from all frozen ones, for each coordinate its own.

    A network of SiLU layers of widths `hidden`, residual where two neighbours are equal. It knows no symmetry: the two
    kinds of parameters are alike. The last layer begins at zero: the identity.
    """

    def __init__(self, n_frozen: int, n_active: int, hidden: tuple[int, ...], n_even: int, n_odd: int) -> None:
        super().__init__()
        self.n_active, self.kinds = n_active, [n_even, n_odd]
        widths = [n_frozen, *hidden, n_active * (n_even + n_odd)]
        self.weights = nn.ParameterList([torch.zeros(n_out, n_in) for n_in, n_out in pairwise(widths)])
        self.biases = nn.ParameterList([torch.zeros(n_out) for n_out in widths[1:]])

    def initialise(self, generator: torch.Generator) -> None:
        """Redraw the weights and biases: variance 1/n_in, the last layer zero."""
        with torch.no_grad():
            for weight, bias in zip(self.weights[:-1], self.biases[:-1]):
                for numbers in (weight, bias):
                    numbers.normal_(0.0, 1.0 / math.sqrt(weight.shape[1]), generator=generator)
            self.weights[-1].zero_()
            self.biases[-1].zero_()

    def forward(self, near: Tensor) -> tuple[Tensor, Tensor]:
        """near (n_frozen, 1, B) -> even (n_even, n_active, B) and odd (n_odd, n_active, B), in the dtype of near."""
        dtype = network_dtype(self.weights[0])
        x = near.squeeze(1).to(dtype)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            y = torch.addmm(bias.to(dtype).unsqueeze(1), weight.to(dtype), x)
            y = y if layer == last else functional.silu(y)
            x = x + y if 0 < layer < last and len(x) == len(y) else y
        even, odd = x.to(near.dtype).unflatten(0, (-1, self.n_active)).split(self.kinds)
        return even, odd
