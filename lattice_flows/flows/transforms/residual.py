"""Residual maps: the identity plus a contraction, inverted by iteration."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lattice_flows.flows.log_det_estimates import estimates_from
from lattice_flows.flows.plan import check_widths
from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.transform import Transform
from lattice_flows.flows.transforms.contracting_network import ContractingNetwork, Local
from lattice_flows.flows.transforms.plan import Fields, TransformPlan, check_real
from lattice_flows.lattice import REAL

_TOLERANCE = 1e-12  # of fields found by iteration, relative to their length, float64
_LENGTH = 10.0  # of usual fields
_CERTAIN_TERMS = 4  # of the series of an estimate, before its length is random
_NUMBERS_AT_ONCE = 2**20  # of a layer's derivative, 8 MiB: larger ones leave the cache
_LARGEST_KERNEL = 99
_LARGEST_CONTRACTION = 0.999  # the inverse takes thousands of iterations there


class Residual(Transform):
    """x = z + g(z), |g(y) - g(z)| <= contraction |y - z|: arXiv:1811.12995, 1906.02735.

    g is a `ContractingNetwork`. The inverse is the fixed point of z -> x - g(z), to the relative error 1e-12; that it
    converges is checked. Its derivative is that of the solution, by the implicit function theorem.

    log_det is exact: the determinant of the whole Jacobian, which costs as many products with it as there are
    variables. With `estimates` it is, in steps of the training alone (`estimated_log_dets`), the estimate of
    arXiv:1906.02735 eq. (6), the series of log(1 + J) with a random vector and a random number of terms. Term k is kept
    with a probability that falls like contraction^k, so that the variance is finite whatever the weights.
    """

    domain = codomain = REAL

    def __init__(self, network: ContractingNetwork, estimates: bool) -> None:
        super().__init__()
        self.network, self.estimates = network, estimates
        self.error = _LENGTH * _TOLERANCE / (1.0 - network.contraction)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        columns = self.columns(z)
        local = self.network.at(columns, self.network.limited(z.dtype))
        return self.field(columns + local.value, z), self.log_det(local)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        network, columns = self.network, self.columns(x)
        weights = network.limited(x.dtype)
        with torch.no_grad():
            root = _fixed_point(lambda z: columns - network.at(z, weights).value, columns, network.contraction, 1.0)
        local = network.at(root, weights)
        if not torch.is_grad_enabled():
            return self.field(root, x), -self.log_det(local)
        z = columns - local.value
        if z.requires_grad:
            z.register_hook(lambda gradient: self.solved_against(local, gradient))
        return self.field(z, x), -self.log_det(network.at(z, weights))

    def log_det(self, local: Local) -> Tensor:
        """log|det(1 + dg/dz)|, (B,), or an estimate of it."""
        generator = estimates_from() if self.estimates else None
        if generator is None:
            return _exact_log_det(self.network, local)
        return _estimated_log_det(self.network, local, generator)

    def solved_against(self, local: Local, right: Tensor) -> Tensor:
        """The v of (1 + dg/dz)^T v = right, (C, V, B); without gradients."""
        network = self.network
        with torch.no_grad():
            return _fixed_point(lambda v: right - network.against(local, v), right, network.contraction, 0.0)

    def columns(self, field: Tensor) -> Tensor:
        """(B, *channels, *sites) -> (C, V, B)."""
        return field.reshape(len(field), *self.network.columns).permute(1, 2, 0)

    def field(self, columns: Tensor, like: Tensor) -> Tensor:
        """The inverse of columns, shaped like `like`."""
        return columns.permute(2, 0, 1).reshape(like.shape)


def _fixed_point(f: Callable[[Tensor], Tensor], start: Tensor, contraction: float, least: float) -> Tensor:
    """The x (..., B) of x = f(x), where f has this contraction, from f(start) on: to an error relative to the length of
    start, or to `least`.

    Raises RuntimeError where it is not found in the iterations that a contraction needs at most.
    """
    length = _length(start)
    tolerance = max(_TOLERANCE, 8.0 * torch.finfo(start.dtype).eps) * length.clamp_min(least)
    finite = torch.isfinite(length)  # what is not a number spoils a weight, and is told there
    most = 2 * math.ceil(math.log(_TOLERANCE) / math.log(contraction))
    x = start
    for _ in range(most):
        x, before = f(x), x
        step = _length(x - before)
        if bool(((step <= tolerance) | ~finite).all()):
            return x
    told = f"after {most} iterations, the last of which moved by {float(step.max()):.3g}"
    raise RuntimeError(f"residual: the inverse is not found {told}")


def _length(columns: Tensor) -> Tensor:
    """|x|, (B,), of x (C, V, B)."""
    return columns.flatten(0, -2).norm(dim=0)


def _exact_log_det(network: ContractingNetwork, local: Local) -> Tensor:
    """log|det(1 + dg/dz)|, (B,), of the Jacobian column by column."""
    channels, n_sites, n_batch = local.value.shape
    n = channels * n_sites
    identity = torch.eye(n, dtype=local.value.dtype, device=local.value.device)
    widest = max(len(weight) for weight in local.weights)
    at_once = max(1, _NUMBERS_AT_ONCE // (widest * n_sites * max(n_batch, 1)))

    def columns(chosen: Tensor, weights: list[Tensor], slopes: list[Tensor]) -> Tensor:
        tangents = chosen.T.reshape(channels, n_sites, -1, 1)  # (C, V, T, 1)
        return network.along(Local(local.value, weights, slopes), tangents).flatten(0, 1).expand(-1, -1, n_batch)

    parts = [
        checkpoint(columns, some, local.weights, local.slopes, use_reentrant=False, preserve_rng_state=False)
        if torch.is_grad_enabled() and at_once < n
        else columns(some, local.weights, local.slopes)
        for some in identity.split(at_once)
    ]
    jacobian = torch.cat(parts, 1).permute(2, 0, 1)  # (B, n, n)
    return torch.linalg.slogdet(jacobian + identity).logabsdet


def _estimated_log_det(network: ContractingNetwork, local: Local, generator: torch.Generator) -> Tensor:
    """An estimate of log|det(1 + dg/dz)|, (B,): arXiv:1906.02735 eq. (6)."""
    shape, keep = local.value.shape, network.contraction
    noise = torch.randint(0, 2, shape, generator=generator, device=generator.device).to(local.value) * 2.0 - 1.0
    uniform = float(torch.rand((), generator=generator, dtype=torch.float64, device=generator.device))
    further = math.floor(math.log(1.0 - uniform) / math.log(keep))  # at least k with the probability keep^k
    tangents, total = noise[:, :, None], torch.zeros_like(local.value[0, 0])
    for k in range(1, _CERTAIN_TERMS + further + 1):
        tangents = network.along(local, tangents)
        weight = keep ** -max(0, k - _CERTAIN_TERMS)
        total = total + (-1) ** (k + 1) * weight / k * (noise * tangents[:, :, 0]).sum((0, 1))
    return total


@forward_with_score.register
def _(transform: Residual, z: Tensor, score: Tensor) -> ScoredField:
    """The score solves (1 + dg/dz)^T score' = score - d log_det / dz, by iteration."""
    node = z.view_as(z) if z.requires_grad else z.detach().requires_grad_(True)
    columns = transform.columns(node)
    local = transform.network.at(columns, transform.network.limited(z.dtype))
    log_det = transform.log_det(local)
    (by_z,) = torch.autograd.grad(log_det.sum(), node, retain_graph=True, materialize_grads=True)
    after = transform.solved_against(local, transform.columns(score - by_z))
    return ScoredField(transform.field(columns + local.value, z), log_det, transform.field(after, z))


@dataclass(frozen=True)
class ResidualPlan(TransformPlan):
    """The identity plus a contraction: a network of widths `hidden`, whose layers are periodic convolutions within a
    window of `kernel` sites, or matrices where there is no lattice. See `Residual` and `ContractingNetwork`.

    log_det: "exact", or "roulette" for random estimates of it in the training, which are cheaper where there are many
    variables; weights and evaluations are exact in any case. With `odd` it commutes with phi -> -phi. It begins as the
    identity.

    Raises ValueError for values out of range.
    """

    hidden: tuple[int, ...] = (16, 16)
    kernel: int = 3
    contraction: float = 0.9
    odd: bool = False
    log_det: Literal["exact", "roulette"] = "exact"

    def __post_init__(self) -> None:
        check_widths(self.hidden, fewest=1)
        if not 1 <= self.kernel <= _LARGEST_KERNEL or self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd and between 1 and {_LARGEST_KERNEL}, got {self.kernel}")
        if not 0 < self.contraction <= _LARGEST_CONTRACTION:
            raise ValueError(f"contraction must be above 0 and at most {_LARGEST_CONTRACTION}, got {self.contraction}")
        if self.log_det not in ("exact", "roulette"):
            raise ValueError(f'log_det must be "exact" or "roulette", got {self.log_det!r}')

    def check(self, fields: Fields) -> None:
        """Raise ValueError for other variables than real numbers, and a kernel that goes round the lattice."""
        check_real(fields)
        if fields.sites and self.kernel > 2 * max(fields.sites) - 1:
            raise ValueError(f"kernel = {self.kernel} is more than once round {fields}")

    def assemble(self, fields: Fields) -> Transform:
        """The map of these channels and sites."""
        channels, hidden = math.prod(fields.channels), tuple(self.hidden)
        network = ContractingNetwork(channels, fields.sites, hidden, self.kernel, self.contraction, self.odd)
        return Residual(network, self.log_det == "roulette")
