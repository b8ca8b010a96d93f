"""Sources of the splines of a region tree: a network, a learned even function, or the exact density."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lattice_flows.flows.share_density import pair_log_density, splines_of_density
from lattice_flows.flows.tree import Split
from lattice_flows.flows.tree_map import TreeTables

_MIN_KAPPA = 0.1  # of the structured conditioner's start
_MAX_FACTOR = 20.0  # of the logarithm of a slope
_MIN_BIN = 1e-7  # of width and height, in units of the whole range
MAX_BETA = 300.0  # of tabulated densities: one plaquette's standard deviation is several steps of the grid


class Conditioner(nn.Module, ABC):
    """One table of splines for every split, as a function of the region's flux s.

    The first split is the torus', whose flux is zero; there, and where the halves are equal, the map of u is odd.
    For unequal halves only p(u|s) = p(-u|-s) holds, and the map is one of sign(s) u.
    """

    def __init__(self, splits: Sequence[Split]) -> None:
        super().__init__()
        self.odd = tuple(split.equal or k == 0 for k, split in enumerate(splits))

    @abstractmethod
    def splines(self) -> Tensor:
        """(n_splits, n_knots, 3, n_bins + 1), differentiable with respect to the parameters."""

    def tables(self) -> TreeTables:
        """The splines and which of them are odd."""
        return TreeTables(self.splines().double(), self.odd)

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Redraw the weights."""


def _names(splits: Sequence[Split]) -> list[str]:
    """The names of the splits, the same on every lattice on which a split has the same kind of map."""
    return [split.name + ("_torus" if k == 0 and not split.equal else "") for k, split in enumerate(splits)]


class NetworkConditioner(Conditioner):
    """A small network of |s| for each split, which knows nothing of the theory.

    Features 2t - 1, 2 cos(pi t / 2) - 1 and cos(pi t) of t = |s| / pi; `hidden` layers of SiLU; initially the identity.
    """

    features: Tensor
    circular: Tensor

    def __init__(self, splits: Sequence[Split], n_bins: int, n_knots: int, hidden: tuple[int, ...]) -> None:
        super().__init__(splits)
        self.n_bins = n_bins
        t = torch.linspace(0.0, 1.0, n_knots, dtype=torch.float64)
        features = [2.0 * t - 1.0, 2.0 * torch.cos(0.5 * math.pi * t) - 1.0, torch.cos(math.pi * t)]
        self.register_buffer("features", torch.stack(features, 1), persistent=False)  # (n_knots, 3)
        widths = (3, *hidden, 3 * n_bins + 1)
        self.networks = nn.ModuleDict({name: _Layers(widths) for name in _names(splits)})
        circular = torch.tensor([not odd for odd in self.odd])[:, None, None]
        self.register_buffer("circular", circular, persistent=False)  # (n_splits, 1, 1)

    def initialise(self, generator: torch.Generator) -> None:
        for network in self._layers():
            network.initialise(generator)

    def splines(self) -> Tensor:
        networks = self._layers()
        x = self.features.expand(len(networks), -1, -1)  # (n_splits, n_knots, 3)
        n_layers = len(networks[0].weights)
        for layer in range(n_layers):
            weight = torch.stack([network.weights[layer] for network in networks])
            bias = torch.stack([network.biases[layer] for network in networks])
            x = torch.baddbmm(bias.unsqueeze(1), x, weight)
            x = functional.silu(x) if layer < n_layers - 1 else x
        return self._unpacked(x)

    def _layers(self) -> "list[_Layers]":
        return [cast(_Layers, network) for network in self.networks.values()]

    def _unpacked(self, output: Tensor) -> Tensor:
        """Ends of bins and slopes from (n_splits, n_knots, 3 n_bins + 1) numbers.

        A slope is a factor on the geometric mean of the secants beside it. Slopes that do not scale with the bins
        leave bumps of density at the knots of the tails, where secants are a thousand and more, and heavy weights.
        """
        k = self.n_bins
        fractions = torch.softmax(output[..., : 2 * k].unflatten(-1, (2, k)), -1)
        sizes = _MIN_BIN + (1.0 - k * _MIN_BIN) * fractions  # of u and u', (n_splits, n_knots, 2, n_bins)
        ends = functional.pad(sizes.cumsum(-1), (1, 0))
        ends = ends / ends[..., -1:]
        ends = torch.where(self.circular.unsqueeze(-1), 2.0 * ends - 1.0, ends) * math.pi
        secants = torch.log(sizes[..., 1, :] / sizes[..., 0, :])
        factors = output[..., 2 * k :].clamp(-_MAX_FACTOR, _MAX_FACTOR)
        first, last = secants[..., :1], secants[..., -1:]
        around = 0.5 * (first + last)  # the two ends of a circle are one knot
        left = torch.where(self.circular, around + factors[..., :1], first + factors[..., :1])
        right = torch.where(self.circular, left, last + factors[..., -1:])
        inner = 0.5 * (secants[..., 1:] + secants[..., :-1]) + factors[..., 1:-1]
        slopes = torch.exp(torch.cat([left, inner, right], -1))
        return torch.cat([ends, slopes.unsqueeze(-2)], -2)


class _Layers(nn.Module):
    """The weights (n_in, n_out) and biases of one split's network."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.zeros(i, o, dtype=torch.float64) for i, o in pairwise(widths)])
        self.biases = nn.ParameterList([torch.zeros(o, dtype=torch.float64) for o in widths[1:]])

    def initialise(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            for weight in self.weights[:-1]:
                weight.normal_(0.0, 1.0 / math.sqrt(weight.shape[0]), generator=generator)
            for zero in (self.weights[-1], *self.biases):
                zero.zero_()


class StructuredConditioner(Conditioner):
    """One learned even function E per half: q(u|s) ~ exp[E(s/2 + u) + E'(s/2 - u)], as for independent plaquettes.

    E is a base plus n_harmonics cosines. The base is kappa cos(theta) for a single plaquette, log I_0(2 kappa
    cos(theta / 2)) for two, and the logarithm of a wrapped normal of width sqrt(area / kappa) for more. kappa is
    learned, from a given start. Equal halves have one function.

    Raises ValueError for a kappa whose plaquettes are too narrow for the grid.
    """

    theta: Tensor
    cosines: Tensor
    firsts: Tensor
    seconds: Tensor
    plain: Tensor
    circular: Tensor

    def __init__(
        self, splits: Sequence[Split], n_bins: int, n_knots: int, n_harmonics: int, grid: int, kappa: float
    ) -> None:
        super().__init__(splits)
        check_beta(kappa)
        self.n_bins, self.n_knots, self.kappa = n_bins, n_knots, kappa
        self.areas = [split.areas for split in splits]
        self.equal = [split.equal for split in splits]
        self.chosen = [[k for k, odd in enumerate(self.odd) if odd != circular] for circular in (False, True)]
        after = list(accumulate(1 if equal else 2 for equal in self.equal))  # one function for equal halves
        firsts = [end - (1 if equal else 2) for end, equal in zip(after, self.equal)]
        places = {"firsts": firsts, "seconds": [end - 1 for end in after], "plain": self.chosen[0]}
        for name, values in {**places, "circular": self.chosen[1]}.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)
        theta = torch.linspace(0.0, math.pi, grid + 1, dtype=torch.float64)
        harmonics = torch.arange(1, n_harmonics + 1, dtype=torch.float64)
        self.register_buffer("theta", theta, persistent=False)
        # A step of Adam changes no harmonic's curvature much more than another's.
        self.register_buffer("cosines", torch.cos(harmonics[:, None] * theta) / harmonics[:, None], persistent=False)
        names = [
            part
            for name, split in zip(_names(splits), splits)
            for part in ([name] if split.equal else [f"{name}_first", f"{name}_second"])
        ]
        self.halves = nn.ModuleDict({name: _Even(n_harmonics) for name in names})
        self.initialise(torch.Generator())

    def initialise(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            for half in self._evens():
                half.log_kappa.fill_(math.log(max(self.kappa, _MIN_KAPPA)))
                half.harmonics.zero_()

    def splines(self) -> Tensor:
        first, second = self._functions()
        tables: list[Tensor | None] = [None] * len(self.odd)
        for circular, places in enumerate((self.plain, self.circular)):
            if chosen := self.chosen[circular]:
                log_p = pair_log_density(first[places], second[places], self.n_knots, bool(circular))
                for k, table in zip(chosen, splines_of_density(log_p, self.n_bins, bool(circular))):
                    tables[k] = table
        return torch.stack([table for table in tables if table is not None])

    def _functions(self) -> tuple[Tensor, Tensor]:
        """E of the first and of the second halves on the grid, (n_splits, N + 1) each."""
        halves = self._evens()
        harmonics = torch.stack([half.harmonics for half in halves]) @ self.cosines
        kappas = torch.stack([half.log_kappa for half in halves]).exp()
        areas = [area for pair, equal in zip(self.areas, self.equal) for area in (pair[:1] if equal else pair)]
        values = harmonics + torch.stack([self._base(kappa, area) for kappa, area in zip(kappas, areas)])
        return values[self.firsts], values[self.seconds]

    def _evens(self) -> "list[_Even]":
        return [cast(_Even, half) for half in self.halves.values()]

    def _base(self, kappa: Tensor, area: int) -> Tensor:
        if area == 1:
            return kappa * torch.cos(self.theta)
        if area == 2:
            argument = 2.0 * kappa * torch.cos(0.5 * self.theta)
            return torch.log(torch.special.i0e(argument)) + argument
        turns = 2.0 * math.pi * torch.arange(-3, 4, dtype=self.theta.dtype, device=self.theta.device)
        return torch.logsumexp(-0.5 * kappa / area * (self.theta[:, None] + turns) ** 2, 1)


class _Even(nn.Module):
    """The parameters of one even function."""

    def __init__(self, n_harmonics: int) -> None:
        super().__init__()
        self.log_kappa = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.harmonics = nn.Parameter(torch.zeros(n_harmonics, dtype=torch.float64))


class ExactConditioner(Conditioner):
    """The exact law of independent plaquettes with the weight exp(beta cos P): p(a|s) ~ f_n(a) f_m(s - a).

    f_n(t) = sum_k (I_k(beta)/I_0(beta))^n exp(i k t) is the density of the flux through n of them (Migdal 1975): in
    closed form for one, by convolution, whose terms are all positive, for more.

    Raises ValueError for a beta whose plaquettes are too narrow for the grid.
    """

    table: Tensor

    def __init__(self, splits: Sequence[Split], beta: float, n_bins: int, n_knots: int, grid: int) -> None:
        super().__init__(splits)
        check_beta(beta)
        logs = _log_flux_densities(beta, sorted({area for split in splits for area in split.areas}), grid)
        tables = []
        for split, odd in zip(splits, self.odd):
            first, second = (torch.from_numpy(logs[area])[None] for area in split.areas)
            tables.append(splines_of_density(pair_log_density(first, second, n_knots, not odd), n_bins, not odd))
        self.register_buffer("table", torch.cat(tables), persistent=False)

    def initialise(self, generator: torch.Generator) -> None:
        """There is nothing to draw."""

    def splines(self) -> Tensor:
        return self.table


def check_beta(beta: float) -> None:
    """Raises ValueError for a beta whose plaquettes are too narrow for the grid."""
    if not 0 <= beta <= MAX_BETA:
        raise ValueError(f"the densities are tabulated for beta between 0 and {MAX_BETA:g}, got {beta:g}")


def _log_flux_densities(beta: float, areas: Sequence[int], grid: int) -> dict[int, NDArray[np.float64]]:
    """log f_n at pi i / grid, i = 0 ... grid, up to a constant, for n in `areas`."""
    theta = np.linspace(0.0, np.pi, grid + 1)
    known = {1: np.exp(beta * (np.cos(theta) - 1.0))}

    def density(n: int) -> NDArray[np.float64]:
        if n not in known:
            known[n] = _convolution(density(n // 2), density(n - n // 2))
        return known[n]

    return {n: np.log(density(n) / density(n).max()) for n in areas}


def _convolution(f: NDArray[np.float64], g: NDArray[np.float64]) -> NDArray[np.float64]:
    """The convolution of two even functions of an angle, given from 0 to pi; the trapezoidal rule is spectral here."""
    full = np.concatenate([g, g[-2:0:-1]])  # (2 grid,), from 0 to 2 pi
    shifts = (np.arange(len(g))[:, None] - np.arange(len(full))) % len(full)
    result = full[shifts] @ np.concatenate([f, f[-2:0:-1]])
    return result / result.max()
