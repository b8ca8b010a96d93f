"""Networks that bring any two fields closer to each other: periodic convolutions of bounded norm."""

import itertools
import math
from itertools import pairwise
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

_LIPSWISH = 1.1  # above the largest slope of SiLU, 1.0998


class ContractingConvolution(nn.Module):
    """A periodic convolution of channels within a window of `kernel` sites, whose norm is at most a given limit.

    Without sites it is a matrix. The norm is exact: that of the largest singular value among all momenta of the lattice
    (arXiv:1805.10408). Weights within the limit are used as they are, and others scaled down to it.
    """

    neighbours: Tensor
    phases: Tensor

    def __init__(self, n_in: int, n_out: int, sites: tuple[int, ...], kernel: int, offset: bool) -> None:
        super().__init__()
        reach = range(-(kernel // 2), kernel // 2 + 1)
        steps = np.array(list(itertools.product(reach, repeat=len(sites))), dtype=int)  # (K, D)
        places = np.array(list(np.ndindex(*sites)), dtype=int)  # (V, D)
        there = (places + steps[:, None]) % np.array(sites, dtype=int)  # (K, V, D)
        strides = np.array([math.prod(sites[axis + 1 :]) for axis in range(len(sites))], dtype=int)
        opposite = (-places % np.array(sites, dtype=int)) @ strides
        kept = places[np.arange(len(places)) <= opposite]  # of momenta k and -k, whose singular values are equal
        angles = 2.0 * np.pi * (kept / np.array(sites)) @ steps.T  # (n_momenta, K)
        self.register_buffer("neighbours", torch.from_numpy(there @ strides), persistent=False)
        self.register_buffer("phases", torch.from_numpy(np.exp(1j * angles)), persistent=False)
        self.weight = nn.Parameter(torch.zeros(n_out, n_in, len(steps)))
        self.bias = nn.Parameter(torch.zeros(n_out)) if offset else None

    def draw(self, generator: torch.Generator, size: float) -> None:
        """Redraw the weights, of variance size^2 / n_in; biases are 0."""
        with torch.no_grad():
            self.weight.normal_(0.0, size / math.sqrt(self.weight[0].numel()), generator=generator)
            if self.bias is not None:
                self.bias.zero_()

    def limited(self, limit: float) -> Tensor:
        """The weights (n_out, n_in, K) of the convolution, float64, scaled to a norm of at most `limit`."""
        weight = self.weight.double()
        return weight * (limit / self.norm().clamp_min(limit))

    def norm(self) -> Tensor:
        """The largest |convolution of x| for |x| = 1, float64; differentiable, as u^+ W v of fixed singular vectors."""
        weight = self.weight.double()
        with torch.no_grad():
            symbols = torch.einsum("oik,mk->moi", weight.to(self.phases.dtype), self.phases)
            top = torch.linalg.svdvals(symbols)[:, 0].argmax()
            u, _, v = torch.linalg.svd(symbols[top], full_matrices=False)
        return (u[:, 0].conj() @ (weight.to(symbols.dtype) @ self.phases[top]) @ v[0].conj()).real

    def convolved(self, weight: Tensor, x: Tensor) -> Tensor:
        """The convolution with these weights of x (n_in, V, N), without the bias: (n_out, V, N)."""
        total = x.new_zeros(len(weight), x[0].numel())
        for tap, sites in zip(weight.unbind(2), self.neighbours):  # one at a time: all together leave the cache
            total.addmm_(tap, x.index_select(1, sites).flatten(1))
        return total.unflatten(1, x.shape[1:])


class Local(NamedTuple):
    """A network at one field: its `value` (C, V, B), its derivative there as `weights` of layers and `slopes` of what
    is between them, (width, V, B) each."""

    value: Tensor
    weights: list[Tensor]
    slopes: list[Tensor]


class ContractingNetwork(nn.Module):
    """g of fields (B, *channels, *sites) with |g(x) - g(y)| <= contraction |x - y|, Euclidean: alike at every site.

    Convolutions of norm contraction^(1 / n_layers) and activations of slopes up to 1 between them: LipSwish
    (arXiv:1906.02735 section 3.3, with beta = 1); with `odd` tanh and no biases, so that g(-x) = -g(x). The last layer
    begins at zero.
    """

    def __init__(
        self,
        channels: int,
        sites: tuple[int, ...],
        hidden: tuple[int, ...],
        kernel: int,
        contraction: float,
        odd: bool,
    ) -> None:
        super().__init__()
        self.contraction, self.odd = contraction, odd
        self.columns = (channels, math.prod(sites))
        self.layers = nn.ModuleList(
            ContractingConvolution(n_in, n_out, sites, kernel, not odd)
            for n_in, n_out in pairwise((channels, *hidden, channels))
        )

    def initialise(self, generator: torch.Generator) -> None:
        """Redraw the weights, the last layer's to 0."""
        layers = self.convolutions()
        for layer in layers:
            layer.draw(generator, 0.0 if layer is layers[-1] else 1.0)

    def convolutions(self) -> list[ContractingConvolution]:
        return [cast("ContractingConvolution", layer) for layer in self.layers]

    def limited(self, dtype: torch.dtype) -> list[Tensor]:
        """The weights of all layers as they are used."""
        limit = self.contraction ** (1.0 / len(self.layers))
        return [layer.limited(limit).to(dtype) for layer in self.convolutions()]

    def at(self, x: Tensor, weights: list[Tensor]) -> Local:
        """g and its derivative at x (C, V, B)."""
        slopes: list[Tensor] = []
        for layer, weight in zip(self.convolutions(), weights):
            if layer is not self.layers[0]:
                x, slope = self._activated(x)
                slopes.append(slope)
            x = layer.convolved(weight, x)
            x = x if layer.bias is None else x + layer.bias.to(x.dtype)[:, None, None]
        return Local(x, weights, slopes)

    def along(self, local: Local, tangents: Tensor) -> Tensor:
        """The derivative of g times tangents (C, V, T, B), or (C, V, T, 1) of equal ones: (C, V, T, B)."""
        x = tangents
        for k, (layer, weight) in enumerate(zip(self.convolutions(), local.weights)):
            x = x if k == 0 else local.slopes[k - 1][:, :, None] * x
            x = layer.convolved(weight, x.flatten(2)).unflatten(2, x.shape[2:])
        return x

    def against(self, local: Local, cotangents: Tensor) -> Tensor:
        """The transposed derivative of g times cotangents (C, V, B)."""
        x, slopes = cotangents, [None, *local.slopes]
        for layer, weight, slope in zip(reversed(self.convolutions()), reversed(local.weights), reversed(slopes)):
            x = layer.convolved(weight.transpose(0, 1).flip(2), x)  # the window is symmetric
            x = x if slope is None else slope * x
        return x

    def _activated(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The activation and its slope."""
        if self.odd:
            y = torch.tanh(x)
            return y, 1.0 - y * y
        gate = torch.sigmoid(x)
        y = x * gate
        return y / _LIPSWISH, (gate + y * (1.0 - gate)) / _LIPSWISH
