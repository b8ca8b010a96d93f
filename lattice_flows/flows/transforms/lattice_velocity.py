"""Velocities of scalar fields with the symmetries of the lattice, and the continuous flows along them."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lattice_flows.flows.fourier_scaling import momentum_basis, phat_squared
from lattice_flows.flows.plan import check_between
from lattice_flows.flows.transform import Transform
from lattice_flows.flows.transforms.continuous import ContinuousTransform, Gradients, Solver, Velocity, check_solver
from lattice_flows.flows.transforms.plan import Fields, TransformPlan, check_lattice

_LARGEST_LAM = 1e6
_DENSE = 1024  # sites up to which a matrix is faster than a fast Fourier transform
_FIRST_FREQUENCY = 0.25  # of the sines, per width of the field
_MOST = {"n_times": 20, "n_couplings": 20, "n_scales": 10, "n_sines": 50, "n_knots": 100}


class LatticeVelocity(Velocity):
    """v = W(t) phi + sum_c W_c(t) h_c(u_c, t), where u_c is phi, smoothed: the velocity of arXiv:2207.00283, and more.

    Every h_c is a sum of n_sines sines of u_c with learnt frequencies. The modes of u_c are those of phi divided by
    1 + c phat^2 / 2, for n_scales numbers c from 0, which alone that paper has. W and W_c are sums over all pairs of
    sites, multiplications of modes: functions of phat^2 as in `FourierScaling`, through n_knots values. They and the
    amplitudes are polynomials in t with n_times coefficients, each of them one in the coupling with n_couplings. The
    velocity is odd in phi and commutes with all symmetries of the lattice, its divergence is exact, and the weights do
    not know the volume. W = 0 to begin with.

    shape: the lattice's, of any dimension. width: the standard deviation of the field, roughly. `coupling`, from -1 to
    1, is the place of the theory within the family that the weights are for.
    """

    hartley: Tensor | None
    basis: Tensor
    smoothing: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        width: float,
        *,
        n_times: int,
        n_scales: int,
        n_sines: int,
        n_knots: int,
        n_couplings: int = 1,
        coupling: float = 0.0,
    ) -> None:
        super().__init__()
        self.shape, self.width = shape, width
        self.n_times, self.n_couplings, self.coupling = n_times, n_couplings, coupling
        smoothing = 1.0 / (1.0 + 0.5 * np.multiply.outer(np.arange(n_scales), phat_squared(shape).ravel()))
        self.register_buffer("smoothing", torch.from_numpy(smoothing), persistent=False)  # (n_scales, V)
        self.register_buffer("basis", momentum_basis(shape, n_knots).flatten(1), persistent=False)  # (n_knots, V)
        n_sites = math.prod(shape)
        dense = _hartley(torch.eye(n_sites, dtype=torch.float64), shape) if n_sites <= _DENSE else None
        self.register_buffer("hartley", dense, persistent=False)
        n_terms = n_times * n_couplings
        self.linear = nn.Parameter(torch.zeros(n_terms, n_knots))
        self.kernels = nn.Parameter(torch.zeros(n_terms, n_scales, n_knots))
        self.amplitudes = nn.Parameter(torch.zeros(n_terms, n_scales, n_sines))
        self.frequencies = nn.Parameter(torch.zeros(n_scales, n_sines))
        self.initialise(torch.Generator())

    def initialise(self, generator: torch.Generator) -> None:
        """Reset the velocity to 0, with harmonics of one frequency; nothing is random."""
        harmonics = torch.arange(1.0, self.frequencies.shape[1] + 1.0)
        with torch.no_grad():
            for weight in (self.linear, self.kernels, self.amplitudes):
                weight.zero_()
            self.amplitudes[0] = 1.0 / harmonics
            self.frequencies.copy_((_FIRST_FREQUENCY / self.width * harmonics).expand_as(self.frequencies))

    def velocity(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        linear, kernels, amplitudes, frequencies = self._at(t, x)
        phi = x.flatten(1)
        modes = self.modes(phi)  # (B, V)
        smooth = self.smoothing.to(x.dtype)
        u = torch.cat([phi[None], self.modes(smooth[1:, None] * modes)])  # (n_scales, B, V)
        h, slope = SineSeries.apply(u, amplitudes, frequencies)
        v = self.modes(linear * modes + (kernels[:, None] * self.modes(h)).sum(0))
        own = (kernels * smooth).mean(1)  # what a site gives to its own velocity
        divergence = linear.sum() + own @ slope.sum(2)
        return v.view_as(x), divergence

    def modes(self, field: Tensor) -> Tensor:
        """The Hartley transform of fields (..., V), real and its own inverse: W multiplies its modes."""
        if self.hartley is None:
            return _hartley(field, self.shape)
        return field @ self.hartley.to(field.dtype)

    def _at(self, t: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        """W_0 (V,), W (n_scales, V), the sines' amplitudes and their frequencies (n_scales, n_sines) at the time t."""
        of_time = _chebyshev(2.0 * t - 1.0, self.n_times)
        of_coupling = _chebyshev(torch.full_like(t, self.coupling), self.n_couplings)
        terms = torch.outer(of_time, of_coupling).flatten().to(x.dtype)
        linear, kernels, amplitudes = (
            torch.tensordot(terms, weight.to(x.dtype), 1) for weight in (self.linear, self.kernels, self.amplitudes)
        )
        basis = self.basis.to(x.dtype)
        return linear @ basis, kernels @ basis, amplitudes, self.frequencies.to(x.dtype)


class SineSeries(torch.autograd.Function):
    """h = sum_f a_f sin(w_f u) and dh/du of u (n_scales, ...), with a and w (n_scales, n_sines): each sine once."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, amplitudes: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        flat = u.flatten(1)
        angles = frequencies[..., None] * flat[:, None]  # (n_scales, n_sines, n)
        sines, cosines = torch.sin(angles), torch.cos(angles)
        slope = _sum(amplitudes * frequencies, cosines)
        ctx.save_for_backward(flat, amplitudes, frequencies, sines, cosines, slope)
        return _sum(amplitudes, sines).view_as(u), slope.view_as(u)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_h: Tensor, by_slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat, a, w, sines, cosines, slope = ctx.saved_tensors
        p, q = by_h.flatten(1), by_slope.flatten(1)
        by_u = p * slope - q * _sum(a * w * w, sines)
        sin_p, cos_q = _sums(sines, p), _sums(cosines, q)
        by_a = sin_p + w * cos_q
        by_w = a * (_sums(cosines, p * flat) + cos_q - w * _sums(sines, q * flat))
        return by_u.view_as(by_h), by_a, by_w


def _sum(weights: Tensor, of: Tensor) -> Tensor:
    """Of each row of `of` (n_scales, n_sines, n) with weights (n_scales, n_sines): (n_scales, n)."""
    return torch.stack([torch.mv(rows.T, row) for rows, row in zip(of, weights, strict=True)])  # faster than bmm


def _sums(of: Tensor, with_: Tensor) -> Tensor:
    """The scalar products of rows of `of` (n_scales, n_sines, n) with rows (n_scales, n): (n_scales, n_sines)."""
    return torch.stack([torch.mv(rows, row) for rows, row in zip(of, with_, strict=True)])


def _chebyshev(s: Tensor, n: int) -> Tensor:
    """The first n Chebyshev polynomials at the number s."""
    values = [torch.ones_like(s), s]
    for _ in range(2, n):
        values.append(2.0 * s * values[-1] - values[-2])
    return torch.stack(values[:n])


def _hartley(field: Tensor, shape: tuple[int, ...]) -> Tensor:
    """sum_x (cos kx + sin kx) phi(x) / sqrt(V) of fields (..., V), by the fast Fourier transform."""
    axes = tuple(range(-len(shape), 0))
    modes = torch.fft.fftn(field.unflatten(-1, shape), dim=axes, norm="ortho")
    return (modes.real - modes.imag).flatten(-len(shape))


@dataclass(frozen=True)
class ContinuousLatticePlan(TransformPlan):
    """A `ContinuousTransform` along a `LatticeVelocity`: a continuous flow of a scalar field on a lattice.

    It commutes with all symmetries of the lattice and with phi -> -phi, has some hundred weights, and begins as the
    identity. n_steps: of a training that begins; a flow that is used takes as many as log w asks for, see `refine`.

    lam_range: the weights are those of a family of theories whose lam is in this range, by default polynomials of
    second order in it, and the flow is the one for the lam of its action.
    """

    n_sines: int = 6
    n_scales: int = 2
    n_times: int = 3
    n_knots: int = 8
    lam_range: tuple[float, float] | None = None
    n_couplings: int | None = None  # coefficients of polynomials in lam: 3
    solver: Solver = "rk4"
    n_steps: int = 6
    gradients: Gradients = "steps"

    integrated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for key, most in _MOST.items():
            if (value := getattr(self, key)) is not None:
                check_between(key, value, 2 if key == "n_knots" else 1, most)
        if self.lam_range is None and self.n_couplings is not None:
            raise ValueError("n_couplings goes with lam_range; leave it out, or give both")
        if self.lam_range is not None and not -_LARGEST_LAM <= self.lam_range[0] < self.lam_range[1] <= _LARGEST_LAM:
            raise ValueError(
                f"lam_range must be two increasing numbers up to {_LARGEST_LAM:g}, got {list(self.lam_range)}"
            )
        check_solver(self.solver, self.n_steps, self.gradients)

    def check(self, fields: Fields) -> None:
        """Raise ValueError for fields without a lattice, with more than a number at each site, and for another lam."""
        check_lattice(fields)
        self._coupling(fields)

    def assemble(self, fields: Fields) -> Transform:
        """The flow, which begins as the identity."""
        velocity = LatticeVelocity(
            fields.sites,
            fields.width,
            n_times=self.n_times,
            n_scales=self.n_scales,
            n_sines=self.n_sines,
            n_knots=self.n_knots,
            n_couplings=1 if self.lam_range is None else self.n_couplings or 3,
            coupling=self._coupling(fields),
        )
        return ContinuousTransform(velocity, self.solver, self.n_steps, self.gradients)

    def _coupling(self, fields: Fields) -> float:
        """Where in the range the theory's lam is, from -1 to 1. Raises ValueError where it is outside."""
        if self.lam_range is None:
            return 0.0
        low, high = self.lam_range
        lam = getattr(fields.action, "lam", math.nan)
        if not low <= lam <= high:
            raise ValueError(f"lam_range = {[low, high]} does not hold the theory's lam, {lam}")
        return float(2.0 * (lam - low) / (high - low) - 1.0)
