"""The links that a coupling layer moves, and the loops of frozen plaquettes that its network sees, for any shape."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

PERIOD = 4  # along nu: passive, active, and two frozen plaquettes
OFFSETS = (0, 2, 1, 3)  # of the layers of a sweep: neighbouring layers share no active or passive plaquette

Site = tuple[int, int]  # a plaquette's distance from the active one, along mu and along nu


class Loop(NamedTuple):
    """Frozen plaquettes that close a Wilson loop with the active one a, or, where `passive`, with the passive one.

    The cosine of that loop pulls a towards c = -(sum of the frozen), or towards c = s + (sum of the frozen).
    """

    passive: bool
    frozen: tuple[Site, ...]


@dataclass(frozen=True)
class MaskPattern:
    """The links theta_mu(n) of a layer are those with n_nu = offset + shifts[n_mu] (mod 4), `shifts` repeated.

    `loops` are the directions of the layer's vectors, `features` frozen plaquettes of which the network also sees the
    cosine. No site may be active or passive; the Jacobian is not triangular otherwise.
    """

    name: str
    shifts: tuple[int, ...]
    loops: tuple[Loop, ...]
    features: tuple[Site, ...] = ()

    @property
    def frozen(self) -> tuple[Site, ...]:
        """All frozen plaquettes in use."""
        return tuple(sorted({site for loop in self.loops for site in loop.frozen} | set(self.features)))

    def combinations(self) -> Tensor:
        """The angles of `loops` and `features` as sums over (pair, *frozen): (n_angles, 1 + n_frozen)."""
        columns = {site: 1 + place for place, site in enumerate(self.frozen)}
        rows = torch.zeros(len(self.loops) + len(self.features), 1 + len(columns))
        for row, loop in zip(rows, self.loops):
            row[0] = float(loop.passive)
            for site in loop.frozen:
                row[columns[site]] = 1.0 if loop.passive else -1.0
        for row, site in zip(rows[len(self.loops) :], self.features):
            row[columns[site]] = 1.0
        return rows


class CellSites(NamedTuple):
    """Places n_0 L1 + n_1 of a layer's plaquettes, in one order of its cells."""

    active: Tensor  # (cells,); theta_mu has the same place
    passive: Tensor  # (cells,)
    frozen: Tensor  # (n_frozen * cells,), in the order of MaskPattern.frozen


@lru_cache(maxsize=256)
def cell_sites(pattern: MaskPattern, mu: int, offset: int, shape: tuple[int, int], device: torch.device) -> CellSites:
    """The places of the layer's plaquettes on a lattice whose sides are multiples of 4."""
    across = torch.arange(shape[mu]).repeat_interleave(shape[1 - mu] // PERIOD)  # n_mu of the cells
    shifts = torch.tensor(pattern.shifts)[across % len(pattern.shifts)]
    rows = torch.arange(0, shape[1 - mu], PERIOD).repeat(shape[mu]) + offset + shifts  # n_nu

    def places(step: Site) -> Tensor:
        n_mu, n_nu = (across + step[0]) % shape[mu], (rows + step[1]) % shape[1 - mu]
        return (n_mu * shape[1] + n_nu if mu == 0 else n_nu * shape[1] + n_mu).to(device)

    frozen = [places(site) for site in pattern.frozen]
    return CellSites(places((0, 0)), places((0, -1)), torch.cat(frozen))


# Along nu, from both ends of the pair: the loops that the layers of a sweep mix into the density of the pair.
_COLUMN = (
    Loop(True, ()),
    Loop(False, ((0, 1),)),
    Loop(True, ((0, -2),)),
    Loop(False, ((0, 1), (0, 2))),
    Loop(True, ((0, -2), (0, -3))),
)
# The 2x1 loops along mu that hold the active or the passive plaquette: frozen where neighbouring columns are shifted.
_BESIDE = (Loop(False, ((1, 0),)), Loop(False, ((-1, 0),)), Loop(True, ((1, -1),)), Loop(True, ((-1, -1),)))

PATTERNS = {
    pattern.name: pattern
    for pattern in (
        MaskPattern("checkerboard", (0, 2), _COLUMN + _BESIDE, ((0, 2),)),
        MaskPattern("rows", (0,), _COLUMN, ((0, 2),)),
    )
}
