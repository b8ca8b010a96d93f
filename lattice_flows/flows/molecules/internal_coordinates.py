"""From bonds, angles and torsions to the positions of atoms."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lattice_flows.flows.transform import Transform
from lattice_flows.lattice import REAL, Mixed
from lattice_flows.theories.molecules.z_matrix import ZMatrix


class InternalCoordinates(Transform):
    """Positions x (B, n_atoms, 3) of internal coordinates z (B, n_atoms, 3).

    Row k >= 1 of z is the distance, the angle and the torsion by which row k of the z-matrix places its atom: above 0,
    between 0 and pi, and an angle. Row 0 is the mean position of the atoms. Angle and torsion of row 1, and the torsion
    of row 2, turn the molecule as a whole. Every row adds log(distance^2 sin(angle)) to log det: these are spherical
    coordinates about the atom it is bonded to, and the rows form a triangle.
    """

    atoms: Tensor
    rows: Tensor
    before: Tensor
    points: Tensor

    codomain = REAL

    def __init__(self, matrix: ZMatrix) -> None:
        super().__init__()
        self.domain = internal_space(matrix)
        self.levels = matrix.levels
        atoms = torch.from_numpy(matrix.atoms)
        # Among the two points at rest, root, rows ...: row k is at k + 2.
        before = 2 + torch.from_numpy(np.stack([matrix.bonded, matrix.angled, matrix.turned]))
        points = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
        tables = {"atoms": atoms, "rows": torch.argsort(atoms), "before": before, "points": points}
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        local = _cartesian(z[:, 1:])  # (B, n_atoms - 1, 3)
        placed = self.points.to(z.dtype).expand(len(z), -1, -1)
        for level in self.levels[1:]:
            axes, origin = _axes(*(placed[:, own[level]] for own in self.before))
            steps = local[:, level.start - 1 : level.stop - 1]
            placed = torch.cat([placed, origin + (axes @ steps[..., None]).squeeze(-1)], 1)
        x = placed[:, 2:][:, self.rows]
        return x - x.mean(1, keepdim=True) + z[:, :1], _log_det(z)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x[:, self.atoms]
        placed = torch.cat([rows[:, :1] + self.points[:2].to(x.dtype), rows], 1)
        axes, origin = _axes(*(placed[:, own[1:]] for own in self.before))
        z = _spherical(((rows[:, 1:] - origin)[..., None, :] @ axes).squeeze(-2))
        z = torch.cat([x.mean(1, keepdim=True), z], 1)
        return z, -_log_det(z)


def internal_space(matrix: ZMatrix) -> Mixed:
    """Where internal coordinates live: the third of each row but the first is an angle."""
    n_atoms = len(matrix.atoms)
    return Mixed((n_atoms, 3), tuple(range(5, 3 * n_atoms, 3)))


def _axes(bonded: Tensor, angled: Tensor, turned: Tensor) -> tuple[Tensor, Tensor]:
    """The axes (..., 3, 3) of the frame at `bonded`, as columns, and its origin; arguments are (..., 3).

    The third axis points to `angled`, from which angles are counted, and the plane of the first and the third holds
    `turned`, which has the torsion 0.
    """
    third = functional.normalize(angled - bonded, dim=-1)
    second = functional.normalize(torch.linalg.cross(third, turned - angled), dim=-1)
    return torch.stack([torch.linalg.cross(second, third), second, third], -1), bonded


def _cartesian(z: Tensor) -> Tensor:
    """Distance, angle and torsion (..., 3) as a vector in the frame of `_axes`."""
    distance, angle, torsion = z.unbind(-1)
    across = distance * torch.sin(angle)
    # The minus is the field's: looking along the bond, torsions grow clockwise (Pure Appl. Chem. 68 (1996) 2193).
    return torch.stack([across * torch.cos(torsion), -across * torch.sin(torsion), distance * torch.cos(angle)], -1)


def _spherical(local: Tensor) -> Tensor:
    """The inverse of `_cartesian`."""
    first, second, third = local.unbind(-1)
    across = torch.hypot(first, second)
    return torch.stack([torch.hypot(across, third), torch.atan2(across, third), torch.atan2(-second, first)], -1)


def _log_det(z: Tensor) -> Tensor:
    """The sum of log(distance^2 sin(angle)) over the rows, (B,)."""
    distance, angle, _ = z[:, 1:].unbind(2)
    return (2.0 * torch.log(distance) + torch.log(torch.sin(angle))).sum(1)
