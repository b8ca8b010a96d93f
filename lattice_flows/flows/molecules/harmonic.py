"""The internal coordinates of a molecule as normal deviates and angles, by its harmonic approximation."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lattice_flows.flows.molecules.internal_coordinates import InternalCoordinates, internal_space
from lattice_flows.flows.transform import Transform
from lattice_flows.lattice import CIRCLE, Mixed
from lattice_flows.theories.action import Action
from lattice_flows.theories.molecules.z_matrix import ZMatrix

_STEP = 1e-4  # nm or rad, of the differences that make second derivatives
_LOG_DENSITY = 0.5 * math.log(2.0 / math.pi)  # of 2 exp(-u^2 / 2) / sqrt(2 pi) at 0


class Kinds(NamedTuple):
    """The places of internal coordinates by kind, counted in C order."""

    centroid: Tensor
    polar: Tensor
    """The angle of row 1, which turns the molecule as a whole."""
    torsions: Tensor
    """About bonds, and those of rows 1 and 2, which turn the molecule as a whole."""
    stiff: tuple[Tensor, Tensor, Tensor]
    """Distances, angles, and torsions to an atom at the same end of a bond."""


def kinds_of(matrix: ZMatrix) -> Kinds:
    """The kinds of the coordinates of a z-matrix."""
    places = torch.arange(3 * len(matrix.atoms)).reshape(-1, 3)
    turns = torch.from_numpy(matrix.proper).clone()
    turns[1:3] = True
    stiff = places[1:, 0], places[2:, 1], places[1:, 2][~turns[1:]]
    return Kinds(places[0], places[1, 1:2], places[turns, 2], stiff)


class HarmonicCoordinates(Transform):
    """Internal coordinates of numbers z (B, n_atoms, 3): angles where there are torsions, real numbers elsewhere.

    Torsions about bonds stay as they are. v = L z of the stiff coordinates are deviations from the reference's, r, a
    and t, in nm and rad; they go through maps onto what such a coordinate can be, s being the logistic function:

        distance r exp(v / r),  angle pi s(logit(a / pi) + v pi / (a (pi - a))),  torsion t + 2 pi (s(2 v / pi) - 1/2).

    The mean position is `width` times its z, and the angle of row 1 has the density sin / 2 where its z is a normal
    deviate: both are exact.

    centre (n_atoms, 3): the internal coordinates of the reference. root = L, lower triangular: distances first, then
    angles, then torsions. Both are stored with the weights.
    """

    centre: Tensor
    root: Tensor
    centroid: Tensor
    polar: Tensor
    stiff: Tensor

    def __init__(self, matrix: ZMatrix, centre: Tensor, root: Tensor, width: float) -> None:
        super().__init__()
        kinds = kinds_of(matrix)
        self.domain = Mixed((len(matrix.atoms), 3), tuple(kinds.torsions.tolist()))
        self.codomain = internal_space(matrix)
        self.width, self.counts = width, [len(places) for places in kinds.stiff]
        self.register_buffer("centre", centre)
        self.register_buffer("root", root)
        places = {"centroid": kinds.centroid, "polar": kinds.polar, "stiff": torch.cat(kinds.stiff)}
        for name, table in places.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        flat, root = z.flatten(1), self.root.to(z.dtype)
        stiff, slopes = self._curved(flat[:, self.stiff] @ root.T)
        polar, slope = _polar(flat[:, self.polar])
        x = flat.index_copy(1, self.stiff, stiff).index_copy(1, self.polar, polar)
        x = x.index_copy(1, self.centroid, self.width * flat[:, self.centroid])
        return x.view_as(z), slopes.sum(1) + slope.squeeze(1) + self._constant(root)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat, root = x.flatten(1), self.root.to(x.dtype)
        straight = self._straight(flat[:, self.stiff])
        stiff = torch.linalg.solve_triangular(root, straight.T, upper=False).T
        polar = _normal(flat[:, self.polar])
        z = flat.index_copy(1, self.stiff, stiff).index_copy(1, self.polar, polar)
        z = z.index_copy(1, self.centroid, flat[:, self.centroid] / self.width)
        slopes, slope = self._curved(straight)[1], _polar(polar)[1]
        return z.view_as(x), -slopes.sum(1) - slope.squeeze(1) - self._constant(root)

    def _constant(self, root: Tensor) -> Tensor:
        """The part of log det that is the same everywhere."""
        return torch.log(root.diagonal()).sum() + 3.0 * math.log(self.width)

    def _centres(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return self.centre.flatten()[self.stiff].to(dtype).split(self.counts)

    def _curved(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The stiff coordinates of deviations v (B, n), and the logarithms of their derivatives."""
        distance, angle, torsion = self._centres(v.dtype)
        by_distance, by_angle, by_torsion = v.split(self.counts, 1)
        stretch = by_distance / distance
        slope = math.pi / (angle * (math.pi - angle))
        bend, turn = torch.logit(angle / math.pi) + slope * by_angle, (2.0 / math.pi) * by_torsion
        coordinates = [
            distance * torch.exp(stretch),
            math.pi * torch.sigmoid(bend),
            torsion + 2.0 * math.pi * (torch.sigmoid(turn) - 0.5),
        ]
        slopes = [stretch, _log_bell(bend) + torch.log(math.pi * slope), _log_bell(turn) + math.log(4.0)]
        return torch.cat(coordinates, 1), torch.cat(slopes, 1)

    def _straight(self, x: Tensor) -> Tensor:
        """The inverse of `_curved`."""
        distance, angle, torsion = self._centres(x.dtype)
        own_distance, own_angle, own_torsion = x.split(self.counts, 1)
        slope = math.pi / (angle * (math.pi - angle))
        turned = CIRCLE.wrap(own_torsion - torsion) / (2.0 * math.pi) + 0.5
        deviations = [
            distance * torch.log(own_distance / distance),
            (torch.logit(own_angle / math.pi) - torch.logit(angle / math.pi)) / slope,
            0.5 * math.pi * torch.logit(turned),
        ]
        return torch.cat(deviations, 1)


def harmonic_coordinates(action: Action, matrix: ZMatrix, reference: Tensor, width: float) -> HarmonicCoordinates:
    """Those of the harmonic approximation of exp(-S) about the reference (n_atoms, 3), torsions about bonds held fixed.

    Raises ValueError where the reference is no minimum of the stiff coordinates.
    """
    internal = InternalCoordinates(matrix)
    centre = internal.inverse(reference[None])[0]
    stiff = torch.cat(kinds_of(matrix).stiff)
    steps = centre.new_zeros(len(stiff), centre.numel()).scatter(1, stiff[:, None], _STEP).view(-1, *centre.shape[1:])

    def slopes(z: Tensor) -> Tensor:
        """The derivatives of S - log det by the stiff coordinates, (B, n)."""
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            x, log_det = internal.forward(z)
            (gradient,) = torch.autograd.grad((action(x) - log_det).sum(), z)
        return gradient.flatten(1)[:, stiff]

    curvature = (slopes(centre + steps) - slopes(centre - steps)) / (2.0 * _STEP)
    covariance, fault = torch.linalg.inv_ex(0.5 * (curvature + curvature.T))
    root, no_root = torch.linalg.cholesky_ex(covariance)
    if fault or no_root:
        raise ValueError("the reference is no minimum of the energy in distances and angles; minimise it further")
    return HarmonicCoordinates(matrix, centre[0], root, width)


def _log_bell(y: Tensor) -> Tensor:
    """log of the derivative of the logistic function."""
    return functional.logsigmoid(y) + functional.logsigmoid(-y)


def _polar(z: Tensor) -> tuple[Tensor, Tensor]:
    """The angle with cos = 1 - 2 Phi(z), Phi the normal distribution function, and the logarithm of its derivative."""
    angle = 2.0 * torch.atan2(torch.special.ndtr(z).sqrt(), torch.special.ndtr(-z).sqrt())
    return angle, _LOG_DENSITY - 0.5 * z * z - torch.log(torch.sin(angle))


def _normal(angle: Tensor) -> Tensor:
    """The inverse of `_polar`."""
    low, high = torch.sin(0.5 * angle).square(), torch.cos(0.5 * angle).square()
    tail = torch.special.ndtri(torch.minimum(low, high))  # of the smaller alone: the other one may be rounded to 1
    return torch.where(low < high, tail, -tail)
