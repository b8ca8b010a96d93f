"""The coupling flow of a molecule's internal coordinates."""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lattice_flows.flows.circle_maps import CIRCLE_MAPS, CircleMap
from lattice_flows.flows.flow import Flow
from lattice_flows.flows.line_maps import LINE_MAPS, LineMap
from lattice_flows.flows.line_transform import LineTransform
from lattice_flows.flows.molecules.harmonic import Kinds, harmonic_coordinates, kinds_of
from lattice_flows.flows.molecules.internal_coordinates import InternalCoordinates
from lattice_flows.flows.molecules.mixed_context import CircleContext, MixedContext
from lattice_flows.flows.molecules.mixed_prior import MixedPrior
from lattice_flows.flows.plan import MOST_LAYERS, FlowPlan, building, check_between, check_widths
from lattice_flows.flows.site_coupling import SiteCoupling
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.lattice import REAL, Mixed, Space
from lattice_flows.theories.action import Action
from lattice_flows.theories.molecules.action import MolecularAction
from lattice_flows.theories.molecules.z_matrix import ZMatrix

_BOUND = 5.0  # of splines of normal deviates


@dataclass(frozen=True)
class InternalCouplingFlow(FlowPlan):
    """The flow of a molecule in internal coordinates: torsions first, then what is stiff given the torsions.

    `n_sweeps` times a coupling for each torsion about a bond moves it given all others, from uniform angles; then
    `n_layers` couplings move distances, angles and the torsions of atoms beside, half of them at a time, which begin
    as the harmonic approximation about the reference (`HarmonicCoordinates`). Position and orientation of the molecule
    are exact. Internal coordinates are those of `z_matrix`.

    torsion_transform: one of CIRCLE_MAPS. transform: one of LINE_MAPS. hidden: widths of the networks.

    Raises ValueError for a theory that is no molecule, a molecule of fewer than five atoms or without a torsion, and
    values out of range.
    """

    shape: tuple[int, ...]
    action: Action
    _: KW_ONLY
    n_sweeps: int = 1
    n_layers: int = 4
    torsion_transform: CircleMap = "spline"
    transform: LineMap = "affine"
    hidden: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        if not isinstance(self.action, MolecularAction):
            raise ValueError(f"internal_coupling is a flow of molecules, got {type(self.action).__name__}")
        check_between("n_sweeps", self.n_sweeps, 0, MOST_LAYERS)
        check_between("n_layers", self.n_layers, 0, MOST_LAYERS)
        check_widths(self.hidden, fewest=1)
        CIRCLE_MAPS.build(self.torsion_transform)  # which checks its own
        self._line()  # likewise
        if len(self._torsions) < 2:
            raise ValueError(
                f"internal_coupling needs two torsions about bonds or more, the molecule has {len(self._torsions)}"
            )

    @property
    def space(self) -> Space:  # type: ignore[override]
        """That of positions."""
        return REAL

    def assemble(self) -> Flow:
        """The couplings, the harmonic map and the positions."""
        action, matrix = self._molecule, self._matrix
        reference = torch.tensor(action.reference)
        harmonic = harmonic_coordinates(action, matrix, reference, action.centroid_width)
        space = harmonic.domain
        assert isinstance(space, Mixed)
        couplings = [*self._of_torsions(space), *self._of_stiff(space)]
        return Flow(MixedPrior(space), Chain(*couplings, harmonic, InternalCoordinates(matrix)))

    def _of_torsions(self, space: Mixed) -> Iterator[Transform]:
        """Every torsion in turn, given the others."""
        circle, torsions = CIRCLE_MAPS.build(self.torsion_transform), self._torsions
        for moved in self.n_sweeps * list(range(len(torsions))):
            frozen = torch.cat([torsions[:moved], torsions[moved + 1 :]])
            seen = space.mask().flatten()[frozen]
            context = CircleContext(seen, 1, tuple(self.hidden), circle.n_parameters)
            yield SiteCoupling(torsions[moved : moved + 1], frozen[:, None], circle, context, space)

    def _of_stiff(self, space: Mixed) -> Iterator[Transform]:
        """A random half of the stiff coordinates and then the other one, given those that rest and all torsions."""
        line, stiff = self._line(), torch.cat(self._kinds.stiff)
        generator = np.random.default_rng(0)  # of which halves, not of weights
        for layer in range(self.n_layers):
            if layer % 2 == 0:
                first = torch.from_numpy(generator.permutation(len(stiff)) < len(stiff) // 2)
            moves = first if layer % 2 == 0 else ~first
            active, frozen = stiff[moves], torch.cat([stiff[~moves], self._torsions])
            seen = space.mask().flatten()[frozen]
            context = MixedContext(seen, len(active), tuple(self.hidden), line.n_even, line.n_odd)
            yield SiteCoupling(active, frozen[:, None], line, context, space)

    def _line(self) -> LineTransform:
        return LINE_MAPS.build(self.transform, bound=_BOUND, width=1.0)

    @property
    def _molecule(self) -> MolecularAction:
        assert isinstance(self.action, MolecularAction)
        return self.action

    @property
    def _matrix(self) -> ZMatrix:
        return self._molecule.molecule.z_matrix

    @cached_property
    def _kinds(self) -> Kinds:
        return kinds_of(self._matrix)

    @property
    def _torsions(self) -> Tensor:
        """The places of the torsions about bonds."""
        return self._kinds.torsions[2:]  # the first two turn the molecule


internal_coupling = building(InternalCouplingFlow)
