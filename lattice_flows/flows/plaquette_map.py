"""One map of the circle for every plaquette of 2D U(1) links: from one coupling to another, in all places at once."""

import math
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lattice_flows.flows.flow import Flow
from lattice_flows.flows.plan import FlowPlan, building, check_torus
from lattice_flows.flows.prior import HaarU1
from lattice_flows.flows.root import Bracket, solved
from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.spline import CircularSpline
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.lattice import CIRCLE, Space, plaquette, plaquette_transpose


class PlaquetteMap(Transform):
    """P -> F(P) + a for all plaquettes P of a torus, with one odd spline F of the circle.

    The plaquettes sum to a multiple of 2 pi, and a = -mean(F(P) - P), of the order of V^(-1/2), keeps this sum. On the
    surface of constant sum

        log det = sum_n log F'(P_n) + log mean_n 1 / F'(P_n).

    The links change by a field without divergence, which has these changes as its plaquettes, and by no constant. The
    map commutes with gauge transformations, charge conjugation and the symmetries of the lattice. Its parameters do not
    know the volume; all of them zero is the identity.

    Under the Wilson action plaquettes are independent but for their sum. So the F that maps the density exp(beta cos P)
    of one angle to exp(beta' cos P) leaves little to be corrected, in any volume: a, and the charge, which stays where
    it is unless a plaquette passes pi.
    """

    domain = codomain = CIRCLE

    def __init__(self, n_bins: int) -> None:
        super().__init__()
        self.spline = CircularSpline(n_bins)
        self.scalars = nn.Parameter(torch.zeros(self.spline.n_scalars))

    def initialise(self, generator: torch.Generator) -> None:
        """Reset the map to the identity."""
        nn.init.zeros_(self.scalars)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        angles = plaquette(z, 0, 1)
        image, log_slope = self.spline.forward(angles, self.parameters_like(z))
        return z + transverse(image - angles), log_det_of(log_slope)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        angles, parameters = plaquette(x, 0, 1), self.parameters_like(x)

        def before(shift: Tensor) -> tuple[Tensor, Tensor]:
            """The mean change of the plaquettes on the way back with a = -shift (B,), and its derivative."""
            back, log_slope = self.spline.inverse(angles + shift[:, None, None], parameters)
            return (back - angles).mean((1, 2)), torch.exp(log_slope).mean((1, 2))

        bracket = Bracket(angles.new_zeros(len(x)), math.pi)
        shift = solved(before, bracket, "the inverse of plaquette_map", n_steps=1)
        back, log_slope = self.spline.inverse(angles + shift[:, None, None], parameters)
        return x + transverse(back - angles), -log_det_of(-log_slope)

    def parameters_like(self, field: Tensor) -> Tensor:
        """Of the spline, (1, 1, 1, n_parameters), in the dtype of the field: what is not odd is taken out."""
        scalars = 0.5 * (self.scalars + self.spline.mirror(self.scalars)).to(field.dtype)
        unturned = scalars.new_zeros(2 * self.spline.n_vectors)
        return torch.cat([scalars, unturned]).expand(1, 1, 1, -1)


def log_det_of(log_slope: Tensor) -> Tensor:
    """log det, (B,), on the plaquettes' surface, from log F' (B, L0, L1)."""
    by_place = log_slope.flatten(1)
    return by_place.sum(1) + torch.logsumexp(-by_place, 1) - math.log(by_place.shape[1])


def transverse(changes: Tensor) -> Tensor:
    """Links (B, 2, L0, L1) of no divergence, whose plaquettes are these (B, L0, L1) less their mean."""
    return plaquette_transpose(without_laplacian(changes))


def without_laplacian(field: Tensor) -> Tensor:
    """-1/Laplacian of a field (B, L0, L1), whose mean is left out."""
    phat2 = momenta_squared(tuple(field.shape[1:]), field.dtype, field.device)
    return torch.fft.irfft2(torch.fft.rfft2(field) / phat2, s=field.shape[1:])


@lru_cache(maxsize=32)
def momenta_squared(shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """phat^2 of the modes that rfft2 keeps, and infinity for the constant one."""
    rows, columns = (np.square(2.0 * np.sin(np.pi * np.arange(extent) / extent)) for extent in shape)
    phat2 = rows[:, None] + columns[None, : shape[1] // 2 + 1]
    phat2[0, 0] = np.inf
    return torch.from_numpy(phat2).to(device, dtype)


@forward_with_score.register
def _(transform: PlaquetteMap, z: Tensor, score: Tensor) -> ScoredField:
    """The Jacobian is 1 + A D C: C the plaquettes of links, D what these change by, A the transverse links of that.

    With v = score - d log_det / dz and y = A^T u the equation for u, the score at x, is F' y = A^T v + constant, where
    the constant makes the mean of y zero; then u = v - C^T (F' - 1) y.
    """
    angles = plaquette(z, 0, 1).detach().requires_grad_(True)
    _, log_slope = transform.spline.forward(angles, transform.parameters_like(z))
    (by_angle,) = torch.autograd.grad(log_det_of(log_slope).sum(), angles)
    slope = torch.exp(log_slope.detach())
    after = score - plaquette_transpose(by_angle)
    pulled = without_laplacian(plaquette(after, 0, 1))
    constant = (pulled / slope).mean((1, 2), keepdim=True) / (1.0 / slope).mean((1, 2), keepdim=True)
    x, log_det = transform.forward(z)
    return ScoredField(x, log_det, after - plaquette_transpose((slope - 1.0) * (pulled - constant) / slope))


@dataclass(frozen=True)
class PlaquetteMapFlow(FlowPlan):
    """One map of all plaquettes of 2D U(1) links, from Haar-random ones: a layer of stochastic flows.

    By itself it leaves the charge of random links nearly as it is: a flow to small beta only. n_bins: of the spline.

    Raises ValueError for a lattice that is not of two sides of 2 or more, and for values out of range.
    """

    shape: tuple[int, int]
    _: KW_ONLY
    n_bins: int = 8

    space: ClassVar[Space] = CIRCLE

    def __post_init__(self) -> None:
        check_torus("plaquette_map", self.shape)
        CircularSpline(self.n_bins)  # which checks it

    def assemble(self) -> Flow:
        """Haar-random links and the map."""
        return Flow(HaarU1((2, *self.shape)), Chain(PlaquetteMap(self.n_bins)))


plaquette_map = building(PlaquetteMapFlow)
