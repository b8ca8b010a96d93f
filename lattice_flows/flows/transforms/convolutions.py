"""Networks of periodic convolutions in one to three dimensions."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lattice_flows.flows.network_dtype import network_dtype

_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)


class PeriodicNetwork(nn.Module):
    """SiLU layers of periodic convolutions of `kernel` sites a side, from widths[0] to widths[-1] channels.

    residual: pairs of layers between equal widths add to what went into them. The last layer begins at zero. On sides
    shorter than the kernel sites are seen more than once.
    """

    def __init__(self, n_axes: int, widths: tuple[int, ...], kernel: int, residual: bool) -> None:
        super().__init__()
        self.n_axes, self.kernel, self.residual = n_axes, kernel, residual
        shape = (kernel,) * n_axes
        self.weights = nn.ParameterList([torch.zeros(n_out, n_in, *shape) for n_in, n_out in pairwise(widths)])
        self.biases = nn.ParameterList([torch.zeros(n_out) for n_out in widths[1:]])

    def initialise(self, generator: torch.Generator) -> None:
        """Redraw the weights: variance 1/n_in, the last layer zero."""
        with torch.no_grad():
            for weight in self.weights[:-1]:
                weight.normal_(0.0, 1.0 / math.sqrt(weight[0].numel()), generator=generator)
            for zero in (self.weights[-1], *self.biases):
                zero.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(B, widths[0], *sites) -> (B, widths[-1], *sites), in the dtype of x."""
        dtype, result = network_dtype(self.weights[0]), x.dtype
        x, last = x.to(dtype), len(self.weights) - 1
        before = x
        for layer in range(last):
            x = functional.silu(self._convolved(x, layer))
            if self.residual and layer % 2 == 0:
                x = x + before if layer > 0 else x
                before = x
        return self._convolved(x, last).to(result)

    def _convolved(self, x: Tensor, layer: int) -> Tensor:
        padded = wrapped(x, self.kernel // 2, self.n_axes)
        weight, bias = self.weights[layer].to(x.dtype), self.biases[layer].to(x.dtype)
        return _CONVOLUTIONS[self.n_axes - 1](padded, weight, bias)


def wrapped(x: Tensor, reach: int, n_axes: int) -> Tensor:
    """x (B, C, *sites), continued periodically by `reach` sites on both sides of every axis, however short."""
    for axis in range(2, 2 + n_axes):
        places = torch.arange(-reach, x.shape[axis] + reach, device=x.device) % x.shape[axis]
        x = x.index_select(axis, places)
    return x
