"""Maps of low rank: few directions of the configuration move, as functions of few projections of it."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from lattice_flows.flows.plan import MOST_LAYERS, check_between
from lattice_flows.flows.root import Bracket, solved
from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.flows.transforms.plan import Fields, TransformPlan, check_real
from lattice_flows.lattice import REAL

_UNIT = math.log(math.e - 1.0)  # softplus of this is 1


class Planar(Transform):
    """x = z + u^ tanh(w.z + b) of all n variables z: arXiv:1505.05770 eq. (10), with the u^ of its appendix,

        u^ = u + (m(w.u) - w.u) w / |w|^2,   w.u^ = m(w.u) > -1,

    so that it is a bijection whatever u. Here m(a) = softplus(a + log(e - 1)) - 1: the constant makes u = 0, where it
    begins, the identity. w.x is an increasing function of w.z, and the inverse its root.
    """

    domain = codomain = REAL

    def __init__(self, n: int) -> None:
        super().__init__()
        self.w, self.u = nn.Parameter(torch.ones(n)), nn.Parameter(torch.zeros(n))
        self.b = nn.Parameter(torch.zeros(()))

    def initialise(self, generator: torch.Generator) -> None:
        """A random direction w of length about 1; the identity."""
        with torch.no_grad():
            self.w.normal_(0.0, 1.0 / math.sqrt(len(self.w)), generator=generator)
            self.u.zero_()
            self.b.zero_()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        w, u, bend, b = self.vectors(z.dtype)
        h = torch.tanh(z.flatten(1) @ w + b)
        return z + torch.outer(h, u).view_as(z), torch.log1p(bend * (1.0 - h * h))

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        w, u, bend, b = self.vectors(x.dtype)
        along = x.flatten(1) @ w
        h = torch.tanh(along + _moved_back(along, bend, torch.ones_like(bend), b) + b)
        return x - torch.outer(h, u).view_as(x), -torch.log1p(bend * (1.0 - h * h))

    def vectors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """w (n,), u^ (n,), w.u^ and b."""
        w, u, b = self.w.to(dtype), self.u.to(dtype), self.b.to(dtype)
        along = w @ u
        bend = functional.softplus(along + _UNIT) - 1.0
        return w, u + (bend - along) / (w @ w) * w, bend, b


class Sylvester(Transform):
    """x = z + Q R tanh(R~ Q^T z + b) of all n variables z, arXiv:1803.05649 section 3.

    Q (n, rank) has orthonormal columns, a product of `rank` Householder reflections. R and R~ are upper triangular with
    diagonals r, r~ in (-1, 1), so that 1 + r r~ tanh' > 0. The inverse goes through the rows of Q^T x, the last one
    first: each is an increasing function of the same row of Q^T z and of those below it. R = 0, to begin with, is the
    identity.
    """

    domain = codomain = REAL

    def __init__(self, n: int, rank: int) -> None:
        super().__init__()
        self.reflections = nn.Parameter(torch.ones(rank, n))
        self.outer, self.inner = nn.Parameter(torch.zeros(rank, rank)), nn.Parameter(torch.zeros(rank, rank))
        self.b = nn.Parameter(torch.zeros(rank))

    def initialise(self, generator: torch.Generator) -> None:
        """Random Q and R~, and R = 0."""
        with torch.no_grad():
            for weight in (self.reflections, self.inner):
                weight.normal_(0.0, 1.0 / math.sqrt(weight.shape[1]), generator=generator)
            self.outer.zero_()
            self.b.zero_()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        q, outer, inner, b = self.matrices(z.dtype)
        h = torch.tanh(z.flatten(1) @ q @ inner.T + b)  # (B, rank)
        return z + (h @ outer.T @ q.T).view_as(z), _log_slopes(outer, inner, h).sum(1)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q, outer, inner, b = self.matrices(x.dtype)
        along = x.flatten(1) @ q  # (B, rank)
        rows: list[Tensor] = []  # of Q^T z, from the one that is wanted on
        bent: list[Tensor] = []  # of the tanh
        for k in reversed(range(len(b))):
            target, offset = along[:, k], b[k].expand(len(x))
            if rows:
                target = target - torch.stack(bent, 1) @ outer[k, k + 1 :]
                offset = offset + torch.stack(rows, 1) @ inner[k, k + 1 :]
            row = target + _moved_back(target, outer[k, k], inner[k, k], offset)
            rows.insert(0, row)
            bent.insert(0, torch.tanh(inner[k, k] * row + offset))
        h = torch.stack(bent, 1)
        return x - (h @ outer.T @ q.T).view_as(x), -_log_slopes(outer, inner, h).sum(1)

    def matrices(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Q (n, rank), R and R~ (rank, rank), and b (rank,)."""
        rank, n = self.reflections.shape
        q = torch.eye(n, rank, dtype=dtype, device=self.b.device)
        for v in self.reflections.to(dtype):
            q = q - torch.outer(2.0 / (v @ v) * v, v @ q)
        return q, _triangular(self.outer.to(dtype)), _triangular(self.inner.to(dtype)), self.b.to(dtype)


def _triangular(weights: Tensor) -> Tensor:
    """The upper triangular matrix of these numbers, the diagonal within (-1, 1)."""
    return torch.triu(weights, 1) + torch.diag(torch.tanh(weights.diagonal()))


def _log_slopes(outer: Tensor, inner: Tensor, h: Tensor) -> Tensor:
    """log(1 + r r~ tanh') of every row, (B, rank), where tanh is h."""
    return torch.log1p(outer.diagonal() * inner.diagonal() * (1.0 - h * h))


def _moved_back(target: Tensor, r: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """The d = y - target of y + r tanh(slope y + offset) = target, r slope > -1."""
    numbers = (target, *(number.expand_as(target) for number in (r, slope, offset)))
    bracket = Bracket(torch.zeros_like(target), 1.01 * r.detach().abs().expand_as(target) + 1e-9)  # |tanh| < 1
    return solved(partial(_excess, *numbers), bracket, "the inverse of a planar map", n_steps=1)


def _excess(target: Tensor, r: Tensor, slope: Tensor, offset: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """d + r tanh(slope (target + d) + offset), and its derivative with respect to d."""
    h = torch.tanh(slope * (target + d) + offset)
    return d + r * h, 1.0 + r * slope * (1.0 - h * h)


@forward_with_score.register
def _(transform: Planar, z: Tensor, score: Tensor) -> ScoredField:
    """The Jacobian is 1 + tanh' u^ w^T: its inverse is one of the same form."""
    x, log_det = transform.forward(z)
    w, u, bend, b = (number.detach() for number in transform.vectors(z.dtype))
    h = torch.tanh(z.detach().flatten(1) @ w + b)
    slope = 1.0 - h * h
    by_log_det = -2.0 * bend * h * slope / (1.0 + bend * slope)  # d log_det / d(w.z)
    after = score.flatten(1) - torch.outer(by_log_det, w)
    after = after - torch.outer(slope * (after @ u) / (1.0 + bend * slope), w)
    return ScoredField(x, log_det, after.view_as(z))


@forward_with_score.register
def _(transform: Sylvester, z: Tensor, score: Tensor) -> ScoredField:
    """The Jacobian is 1 on what is orthogonal to Q, and upper triangular on Q."""
    x, log_det = transform.forward(z)
    q, outer, inner, b = (number.detach() for number in transform.matrices(z.dtype))
    h = torch.tanh(z.detach().flatten(1) @ q @ inner.T + b)
    slope = 1.0 - h * h  # (B, rank)
    bends = outer.diagonal() * inner.diagonal()
    after = score.flatten(1) @ q - (-2.0 * bends * h * slope / (1.0 + bends * slope)) @ inner
    identity = torch.eye(len(b), dtype=z.dtype, device=z.device)
    jacobian = identity + (outer * slope[:, None, :]) @ inner  # (B, rank, rank)
    moved = torch.linalg.solve_triangular(jacobian.mT, after[:, :, None], upper=False).squeeze(2)
    rest = score.flatten(1) - score.flatten(1) @ q @ q.T
    return ScoredField(x, log_det, (rest + moved @ q.T).view_as(z))


@dataclass(frozen=True)
class PlanarPlan(TransformPlan):
    """`n_terms` planar maps one after another, each of one direction; without symmetry. See `Planar`."""

    n_terms: int = 4

    def __post_init__(self) -> None:
        check_between("n_terms", self.n_terms, 1, MOST_LAYERS)

    def check(self, fields: Fields) -> None:
        """Raise ValueError for other variables than real numbers."""
        check_real(fields)

    def assemble(self, fields: Fields) -> Transform:
        """The maps of all variables."""
        return Chain(*(Planar(fields.n) for _ in range(self.n_terms)))


@dataclass(frozen=True)
class SylvesterPlan(TransformPlan):
    """One map of `rank` directions at once, at most as many as there are variables; no symmetry. See `Sylvester`."""

    rank: int = 4

    def __post_init__(self) -> None:
        check_between("rank", self.rank, 1, MOST_LAYERS)

    def check(self, fields: Fields) -> None:
        """Raise ValueError for other variables than real numbers, and fewer than `rank` of them."""
        check_real(fields)
        if self.rank > fields.n:
            raise ValueError(f"rank = {self.rank} is more than the {fields.n} variables")

    def assemble(self, fields: Fields) -> Transform:
        """The map of all variables."""
        return Sylvester(fields.n, self.rank)
