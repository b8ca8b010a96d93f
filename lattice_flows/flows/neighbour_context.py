"""The network of a scalar coupling: frozen sites in, parameters of line transforms out."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lattice_flows.flows.network_dtype import network_dtype


class NeighbourContext(nn.Module):
    """Even and odd parameters of the active sites' maps from the frozen sites around them, alike at every site.

    Input: the field at `n_neighbours` places around each site: the first layer is a periodic convolution. It is linear
    without bias, u = W phi, hence odd under phi -> -phi. The even features u tanh(u/2), a smooth |u|, pass through the
    SiLU layers `hidden[1:]` to even parameters and to gates in (0, 1); the odd parameters are a linear form of
    gate * (W' u). No parameter grows faster than the field. The last layers begin at zero: the identity.
    """

    def __init__(self, n_neighbours: int, hidden: tuple[int, ...], n_even: int, n_odd: int) -> None:
        super().__init__()
        first, last = hidden[0], hidden[-1]
        self.convolution = nn.Parameter(torch.zeros(first, n_neighbours))
        self.weights = nn.ParameterList([torch.zeros(n_out, n_in) for n_in, n_out in pairwise(hidden)])
        self.biases = nn.ParameterList([torch.zeros(n_out) for n_out in hidden[1:]])
        self.gate_weight = nn.Parameter(torch.zeros(last, last))
        self.gate_bias = nn.Parameter(torch.zeros(last))
        self.odd_weight = nn.Parameter(torch.zeros(last, first))
        self.to_even = nn.Parameter(torch.zeros(n_even, last))
        self.even_bias = nn.Parameter(torch.zeros(n_even))
        self.to_odd = nn.Parameter(torch.zeros(n_odd, last))

    def initialise(self, generator: torch.Generator) -> None:
        """Redraw the weights: variance 1/n_in, the last layers zero."""
        with torch.no_grad():
            for weight in (self.convolution, *self.weights, self.gate_weight, self.odd_weight):
                weight.normal_(0.0, 1.0 / math.sqrt(weight.shape[1]), generator=generator)
            for constant in (*self.biases, self.gate_bias, self.to_even, self.even_bias, self.to_odd):
                constant.zero_()

    def forward(self, near: Tensor) -> tuple[Tensor, Tensor]:
        """near (n_neighbours, sites, B) -> even (n_even, sites, B) and odd (n_odd, sites, B), in the dtype of near."""
        size, dtype = near.shape[1:], network_dtype(self.convolution)
        u = self.convolution.to(dtype) @ near.flatten(1).to(dtype)  # (first, sites * B)
        x = 2.0 * functional.silu(u) - u  # u tanh(u/2)
        for weight, bias in zip(self.weights, self.biases):
            x = functional.silu(_affine(weight, bias, x))
        even = _affine(self.to_even, self.even_bias, x)
        gates = torch.sigmoid(_affine(self.gate_weight, self.gate_bias, x))
        odd = self.to_odd.to(dtype) @ (gates * (self.odd_weight.to(dtype) @ u))
        return even.to(near.dtype).unflatten(1, size), odd.to(near.dtype).unflatten(1, size)


def _affine(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """weight @ x + bias of x (n_in, columns), in its dtype."""
    return torch.addmm(bias.to(x.dtype).unsqueeze(1), weight.to(x.dtype), x)
