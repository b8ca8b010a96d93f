"""The gradient flow of a sum of Wilson loops on a lattice: its velocity and its divergence, with their derivatives."""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from lattice_flows.flows.wilson_loops import Loop, link_charges

Shape = tuple[int, int]

_STAR: Loop = ((0, 0, -4), (0, 1, 1), (0, -1, 1), (1, 0, 1), (-1, 0, 1))


class Bags(NamedTuple):
    """A sparse matrix as `embedding_bag` takes it: the columns and values of all rows, and where each row starts."""

    columns: Tensor
    values: Tensor
    starts: Tensor

    def times(self, x: Tensor) -> Tensor:
        """The product with x (n_columns, B), (n_rows, B)."""
        return embedding_bag(self.columns, x, self.starts, mode="sum", per_sample_weights=self.values)

    def like(self, x: Tensor) -> "Bags":
        """For products with x: of its type, on its device."""
        return Bags(self.columns.to(x.device), self.values.to(x), self.starts.to(x.device))


class LoopTables(NamedTuple):
    """K loops at all V places of a lattice."""

    angles: Bags  # (K V, V): of the loops, from those of the plaquettes
    slopes: Bags  # (V, K V): its transpose
    laplacian: Bags  # (V, V): the change of the plaquettes where the links follow the slopes
    eigenvalues: Tensor  # (K,): of L_0, also where a loop meets itself around the lattice

    def like(self, x: Tensor) -> "LoopTables":
        """For fields of the type of x, on its device."""
        angles, slopes, laplacian, eigenvalues = self
        return LoopTables(angles.like(x), slopes.like(x), laplacian.like(x), eigenvalues.to(x))


@lru_cache(maxsize=8)
def loop_tables(loops: tuple[Loop, ...], shape: Shape) -> LoopTables:
    """The tables of these loops on the CPU, made once."""
    angles = _matrix(loops, shape)
    eigenvalues = [_eigenvalue(loop, shape) for loop in loops]
    star = _bags(_matrix((_STAR,), shape))
    return LoopTables(_bags(angles), _bags(angles.T.tocsr()), star, torch.from_numpy(np.array(eigenvalues, float)))


def _matrix(loops: Iterable[Loop], shape: Shape) -> csr_array:
    """The matrix (K V, V) of the plaquettes in each loop at each place."""
    x0, x1 = np.indices(shape)
    n_sites = x0.size
    rows, columns, values = [], [], []
    for k, loop in enumerate(loops):
        for y0, y1, n in loop:
            rows.append(k * n_sites + np.arange(n_sites))
            columns.append(((x0 + y0) % shape[0] * shape[1] + (x1 + y1) % shape[1]).ravel())
            values.append(np.full(n_sites, float(n)))
    places = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.concatenate(values), places), shape=(int(rows[-1][-1]) + 1, n_sites))


def _bags(matrix: csr_array) -> Bags:
    columns, values, starts = (torch.from_numpy(part) for part in (matrix.indices, matrix.data, matrix.indptr[:-1]))
    return Bags(columns.long(), values, starts.long())


def _eigenvalue(loop: Loop, shape: Shape) -> int:
    folded: Counter[tuple[int, int, int]] = Counter()
    for (mu, x0, x1), n in link_charges(loop).items():
        folded[mu, x0 % shape[0], x1 % shape[1]] += n
    return sum(n * n for n in folded.values())


class Velocity(torch.autograd.Function):
    """Slopes and divergence of the flow of S~ = -sum_K c_K sum_places cos(angle of the loop K).

    apply(p, total, c, tables): p (V, B) are the plaquettes at first, `total` (V, B) is the integral of the slopes since
    and c (K,) are the coefficients. Returns the slopes dS~/dP (V, B), and the divergence of the links' velocity -dS~ /
    dtheta, (B,): -sum_K eigenvalue_K c_K sum cos, which is exact.
    """

    @staticmethod
    def forward(ctx: Any, p: Tensor, total: Tensor, c: Tensor, tables: LoopTables) -> tuple[Tensor, Tensor]:
        angles = tables.angles.times(p + tables.laplacian.times(total))  # (K V, B)
        sin, cos = torch.sin(angles), torch.cos(angles)
        of_row, eigenvalues = (one.repeat_interleave(len(p)) for one in (c, tables.eigenvalues))  # (K V,)
        ctx.save_for_backward(sin, cos, of_row, eigenvalues)
        ctx.tables = tables
        return tables.slopes.times(of_row[:, None] * sin), -((of_row * eigenvalues) @ cos)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_slopes: Tensor, by_divergence: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        sin, cos, of_row, eigenvalues = ctx.saved_tensors
        tables: LoopTables = ctx.tables
        of_loops = tables.angles.times(by_slopes)  # (K V, B)
        by_angles = cos * of_loops + (eigenvalues[:, None] * by_divergence) * sin
        by_p = tables.slopes.times(of_row[:, None] * by_angles)
        by_row = (sin * of_loops).sum(1) - eigenvalues * (cos @ by_divergence)  # (K V,)
        by_c = by_row.view(len(tables.eigenvalues), -1).sum(1)
        return by_p, tables.laplacian.times(by_p), by_c, None
