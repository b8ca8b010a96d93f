"""A flow and a target whose divergences and gradients are known in closed form.

q = N(mu, exp(2 log_s)) and p = N(m, t^2) in every dimension, with
KL(q|p) = log t - log s + (s^2 + (mu - m)^2) / (2 t^2) - 1/2, summed over dimensions, and the same with p and q swapped.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lattice_flows.ensembles import FieldSpec
from lattice_flows.flows import Flow, Prior, Transform
from lattice_flows.lattice import REAL
from lattice_flows.theories import Action


class Normal(Prior):
    """Independent standard normal deviates (B, d)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.shape, self.space = (d,), REAL

    def sample(self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn((n, *self.shape), generator=generator, dtype=dtype)

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z**2).sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)


class Affine(Transform):
    """x = mu + exp(log_s) z."""

    def __init__(self, mu: list[float], log_s: list[float]) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.tensor(mu, dtype=torch.float64))
        self.log_s = nn.Parameter(torch.tensor(log_s, dtype=torch.float64))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.mu + self.log_s.exp() * z, self.log_s.sum().expand(len(z))

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x - self.mu) * torch.exp(-self.log_s), -self.log_s.sum().expand(len(x))


@dataclass(frozen=True)
class GaussianAction(Action):
    """S = sum (x - m)^2 / (2 t^2), whose log Z is sum log(t sqrt(2 pi))."""

    m: tuple[float, ...]
    t: tuple[float, ...]
    space = REAL

    def field(self, lattice_shape):
        return FieldSpec("x", ("coordinate",), (len(self.m),))

    def __call__(self, x: Tensor) -> Tensor:
        m, t = (torch.tensor(values, dtype=x.dtype) for values in (self.m, self.t))
        return (0.5 * ((x - m) / t) ** 2).sum(1)

    @property
    def log_z(self) -> float:
        return sum(math.log(t * math.sqrt(2 * math.pi)) for t in self.t)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact samples: a data source."""
        m, t = (torch.tensor(values, dtype=torch.float64) for values in (self.m, self.t))
        return m + t * torch.randn((n, len(self.m)), generator=generator, dtype=torch.float64)


def gaussian_flow(mu: list[float], log_s: list[float]) -> Flow:
    return Flow(Normal(len(mu)), Affine(mu, log_s))


def reverse_kl_gradient(flow: Flow, action: GaussianAction) -> Tensor:
    """d KL(q|p) / d (mu, log_s), (2 d,): (mu - m) / t^2 and s^2 / t^2 - 1."""
    mu, s, m, t = _parameters(flow, action)
    return torch.cat([(mu - m) / t**2, s**2 / t**2 - 1.0])


def forward_kl_gradient(flow: Flow, action: GaussianAction) -> Tensor:
    """d KL(p|q) / d (mu, log_s), (2 d,): (mu - m) / s^2 and 1 - (t^2 + (mu - m)^2) / s^2."""
    mu, s, m, t = _parameters(flow, action)
    return torch.cat([(mu - m) / s**2, 1.0 - (t**2 + (mu - m) ** 2) / s**2])


def half_variance_gradient(flow: Flow, action: GaussianAction) -> Tensor:
    """d (Var(log w) / 2) / d (mu, log_s) over the density (p + q) / 2 held fixed, (2 d,): means of polynomials, which
    Gauss-Hermite quadrature does exactly."""
    mu, s, m, t = _parameters(flow, action)
    nodes, weights = _hermite(8)
    x = torch.stack([mu, m])[..., None] + torch.stack([s, t])[..., None] * nodes  # (2, d, n): of q and of p
    free = torch.cat([mu, s.log()]).requires_grad_(True)
    mu, log_s = free.reshape(2, -1, 1)
    log_w = log_s + 0.5 * ((x - mu) * torch.exp(-log_s)) ** 2 - 0.5 * ((x - m[:, None]) / t[:, None]) ** 2
    mean = (log_w @ weights).sum(1)  # (2,): dimensions are independent
    within = ((log_w**2 @ weights) - (log_w @ weights) ** 2).sum(1)
    (gradient,) = torch.autograd.grad(0.5 * (within.mean() + mean.var(unbiased=False)), free)
    return gradient


def weighted_gradient(flow: Flow, action: GaussianAction, group_size: int, n_nodes: int = 60) -> Tensor:
    """-E sum_i v_i d log q(x_i) / d (mu, log_s), (2,), in one dimension, with v the weights over their sum in a group
    of so many samples of the flow: by quadrature over all of them."""
    nodes, weights = _hermite(n_nodes)
    w, score = _weights_and_score(flow, action, nodes)
    total, measure = w, weights
    for _ in range(group_size - 1):
        total, measure = total[..., None] + w, measure[..., None] * weights
    share = (measure / total).flatten(1).sum(1) * w  # (n,): of the first sample of a group, times its probability
    return -group_size * (score * share).sum(1)


def weighted_bias(flow: Flow, action: GaussianAction) -> Tensor:
    """E_p[(w / Z) (d log q - E_p d log q)], (2,): K times what `weighted_gradient` is off by at large K."""
    nodes, weights = _hermite(200)
    w, score = _weights_and_score(flow, action, nodes)
    p = weights * w / (weights * w).sum()
    return (p * w * (score - (p * score).sum(1, keepdim=True))).sum(1) / (weights * w).sum()


def _weights_and_score(flow: Flow, action: GaussianAction, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """w (n,), up to a factor, and d log q / d (mu, log_s) (2, n) of samples of the flow, of one dimension."""
    mu, s, m, t = _parameters(flow, action)
    log_w = 0.5 * nodes**2 - 0.5 * ((mu + s * nodes - m) / t) ** 2
    return torch.exp(log_w), torch.stack([nodes / s, nodes**2 - 1.0])


def _hermite(n: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the mean over standard normal deviates."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return torch.from_numpy(nodes), torch.from_numpy(weights / math.sqrt(2.0 * math.pi))


def _parameters(flow: Flow, action: GaussianAction) -> list[Tensor]:
    m, t = (torch.tensor(values, dtype=torch.float64) for values in (action.m, action.t))
    transform = flow.transform
    assert isinstance(transform, Affine)
    return [transform.mu.detach(), transform.log_s.detach().exp(), m, t]
