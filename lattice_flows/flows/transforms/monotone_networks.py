"""Networks that are increasing functions of one variable, with parameters from elsewhere."""

import math
from collections.abc import Callable

import numpy as np
import torch
import zuko
from torch import Tensor, nn
from torch.func import functional_call

from lattice_flows.flows.line_transform import bounded
from lattice_flows.flows.plan import check_between, check_widths
from lattice_flows.flows.root import between, solved

_N_SIGNALS = 8  # of what is around a variable, by which its map differs from that of others
_MAX_LOG_SCALE = 3.0  # of one map, as of those of LINE_MAPS
_START_SHARE = math.exp(-5.0)  # of the network, beside the identity

Increasing = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A function and its derivative, both shaped like the variable."""


class NafMap(nn.Module):
    """y = e^a (x + s M(x, signals)) + b: M is a network whose weights are all positive, arXiv:1804.00779 section 3.1.

    One network of widths `hidden`, which are even, for all variables; the scale, the shift and the signals are each
    variable's own. s > 0 begins small. Once differentiable. The inverse is a root between bounds that are known: M is
    increasing, so that x is no further from 0 than x + s [M(x) - M(0)].

    Raises ValueError for widths that make no network.
    """

    n_even = 2 + _N_SIGNALS
    n_odd = 0

    def __init__(self, hidden: tuple[int, ...] = (16, 16)) -> None:
        super().__init__()
        check_widths(hidden, fewest=1)
        if any(width % 2 for width in hidden):
            raise ValueError(f"hidden must be even widths of a monotone network, got {list(hidden)}")
        with torch.random.fork_rng(devices=[]):
            self.network = zuko.nn.MonotonicMLP(1 + _N_SIGNALS, 1, tuple(hidden))
        self.log_share = nn.Parameter(torch.zeros(()))

    def initialise(self, generator: torch.Generator) -> None:
        """Redraw the network; its share is small."""
        redraw(self.network, generator)
        nn.init.constant_(self.log_share, math.log(_START_SHARE))

    def forward(self, x: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        """y and log dy/dx, both shaped like x (...), of parameters even (n_even, ...); odd (0, ...)."""
        return _scaled(self._function(even[2:]), x, even)

    def inverse(self, y: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx/dy, both shaped like y (...); their first derivatives are right."""
        log_scale = bounded(even[0], _MAX_LOG_SCALE)
        target, function = (y - even[1]) * torch.exp(-log_scale), self._function(even[2:])
        with torch.no_grad():
            away = target - function(torch.zeros_like(target))[0]
        x, slope = _solved(function, target, away.clamp_max(0.0), away.clamp_min(0.0), "the inverse of a NAF map")
        return x, -log_scale - torch.log(slope)

    def _function(self, signals: Tensor) -> Increasing:
        """x + s M(x, signals) and its derivative."""
        share = torch.exp(self.log_share).to(signals.dtype)

        def increasing(x: Tensor) -> tuple[Tensor, Tensor]:
            y, slope = _with_slope(lambda x: _of_network(self.network, x, signals), x)
            return x + share * y, 1.0 + share * slope

        return increasing


class UmnnMap(nn.Module):
    """y = e^a F(x) + b, F(x) = integral of g(u, signals) from 0 to x: g > 0 is a network, arXiv:1908.05164 section 3.

    One network of widths `hidden` for all variables, log g between -3 and 3, and 1 at first: the identity. The integral
    is that of the Gauss-Legendre rule of `n_nodes`, and log dy/dx is the logarithm of the rule's own derivative and not
    of g: the map and its derivative agree whatever the number of nodes. Outside [-bound, bound] F is linear. Where the
    rule is too coarse for a wild g its derivative is below 0, and log_det no number.

    Raises ValueError for widths that make no network, and values out of range.
    """

    n_even = 2 + _N_SIGNALS
    n_odd = 0
    nodes: Tensor
    shares: Tensor

    def __init__(self, hidden: tuple[int, ...] = (16, 16), n_nodes: int = 16, bound: float = 4.0) -> None:
        super().__init__()
        check_widths(hidden, fewest=1)
        check_between("n_nodes", n_nodes, 2, 100)
        self.bound = bound
        with torch.random.fork_rng(devices=[]):
            self.network = zuko.nn.MLP(1 + _N_SIGNALS, 1, tuple(hidden), activation=nn.Tanh)
        nodes, shares = np.polynomial.legendre.leggauss(n_nodes)  # on [-1, 1]
        self.register_buffer("nodes", torch.from_numpy(0.5 * (nodes + 1.0)), persistent=False)
        self.register_buffer("shares", torch.from_numpy(0.5 * shares), persistent=False)

    def initialise(self, generator: torch.Generator) -> None:
        """Redraw the network; its last layer is 0."""
        redraw(self.network, generator, last=0.0)

    def forward(self, x: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        """y and log dy/dx, both shaped like x (...), of parameters even (n_even, ...); odd (0, ...)."""
        return _scaled(self._function(even[2:]), x, even)

    def inverse(self, y: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx/dy, both shaped like y (...); their first derivatives are right."""
        log_scale = bounded(even[0], _MAX_LOG_SCALE)
        target = (y - even[1]) * torch.exp(-log_scale)
        furthest = math.exp(_MAX_LOG_SCALE) * target.detach()  # g > e^-3
        low, high = furthest.clamp_max(0.0), furthest.clamp_min(0.0)
        x, slope = _solved(self._function(even[2:]), target, low, high, "the inverse of a UMNN map")
        return x, -log_scale - torch.log(slope)

    def _function(self, signals: Tensor) -> Increasing:
        """F and its derivative."""
        nodes, shares = self.nodes.to(signals.dtype), self.shares.to(signals.dtype)

        def rule(x: Tensor) -> Tensor:
            log_g = _of_network(self.network, x[..., None] * nodes, signals[..., None])  # (..., n_nodes)
            return x * (torch.exp(bounded(log_g, _MAX_LOG_SCALE)) @ shares)

        def increasing(x: Tensor) -> tuple[Tensor, Tensor]:
            inner = x.clamp(-self.bound, self.bound)
            y, slope = _with_slope(rule, inner)
            return y + (x - inner) * slope, slope

        return increasing


def redraw(network: nn.Module, generator: torch.Generator, last: float = 1.0) -> None:
    """Draw all weights and biases of a network of layers uniformly within 1 / sqrt(n_in), those of its last layer times
    `last`."""
    layers = [part for part in network.modules() if isinstance(part, (nn.Linear, zuko.nn.Linear))]
    for layer in layers:
        limit = (last if layer is layers[-1] else 1.0) / math.sqrt(layer.weight.shape[-1])
        for numbers in (layer.weight, layer.bias):
            nn.init.uniform_(numbers, -limit, limit, generator=generator)


def in_dtype(network: nn.Module, x: Tensor) -> Tensor:
    """network(x), computed in the dtype of x whatever that of its weights."""
    weights = {name: weight.to(x.dtype) for name, weight in network.named_parameters()}
    return functional_call(network, weights, (x,))


def _of_network(network: nn.Module, x: Tensor, signals: Tensor) -> Tensor:
    """The network's one output at x (...) and signals (n, ...), (...)."""
    given = torch.cat([x[None], signals.expand(len(signals), *x.shape)])
    return in_dtype(network, given.movedim(0, -1)).squeeze(-1)


def _with_slope(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """function(x) and its derivative, both differentiable where gradients are enabled."""
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        node = x.view_as(x) if x.requires_grad else x.detach().requires_grad_(True)  # x alone, not what depends on it
        y = function(node)
        (slope,) = torch.autograd.grad(y.sum(), node, create_graph=wanted, retain_graph=wanted)
    return (y, slope) if wanted else (y.detach(), slope)


def _scaled(f: Increasing, x: Tensor, even: Tensor) -> tuple[Tensor, Tensor]:
    """y = e^a f(x) + b and log dy/dx, a and b the first two even parameters."""
    log_scale = bounded(even[0], _MAX_LOG_SCALE)
    y, slope = f(x)
    return torch.exp(log_scale) * y + even[1], log_scale + torch.log(slope)


def _solved(f: Increasing, target: Tensor, low: Tensor, high: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """The x of f(x) = target between bounds, beyond rounding, and df/dx there; with first derivatives."""

    def excess(x: Tensor) -> tuple[Tensor, Tensor]:
        y, slope = f(x)
        return y - target, slope

    room = 1e-9 + 0.01 * (high - low).detach()
    x = solved(excess, between(low - room, high + room), what, n_steps=1)
    return x, f(x)[1]
