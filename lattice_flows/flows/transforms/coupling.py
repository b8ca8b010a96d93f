"""Couplings of real variables: some of them move at a time, given the others."""

from dataclasses import dataclass

import numpy as np
import torch

from lattice_flows.flows.line_maps import LINE_MAPS, LineMap
from lattice_flows.flows.site_coupling import SiteCoupling
from lattice_flows.flows.transform import Chain, Transform
from lattice_flows.flows.transforms.contexts import CONTEXTS, ContextTable, Seen
from lattice_flows.flows.transforms.elementwise import line_of
from lattice_flows.flows.transforms.masks import MASKS, Mask, MaskTable, masks_of
from lattice_flows.flows.transforms.plan import Fields, TransformPlan, check_real


@dataclass(frozen=True)
class CouplingPlan(TransformPlan):
    """Couplings (arXiv:1410.8516, arXiv:1605.08803) that move every variable, or those of the mask, once.

    mask: one of MASKS, the order in which variables move. map: one of LINE_MAPS, by which they do. context: one of
    CONTEXTS, the network that sees the others and gives the map's parameters; by default "stencil" on a lattice and
    "mlp" without one. All maps begin as the identity.
    """

    mask: MaskTable = "checkerboard"
    map: LineMap = "spline"
    context: ContextTable = None

    def __post_init__(self) -> None:
        MASKS.split(self.mask)  # which checks the name and the options
        LINE_MAPS.build(self.map)  # likewise
        if self.context is not None:
            CONTEXTS.build(self.context)

    def check(self, fields: Fields) -> None:
        """Raise ValueError for masks and networks that do not fit the fields."""
        check_real(fields, least=2)
        for active in masks_of(self.mask, fields):
            with torch.device("meta"):
                self._seen(active, fields)

    def assemble(self, fields: Fields) -> Transform:
        """One coupling for each step of the mask."""
        line, steps = line_of(self.map, fields), []
        for active in masks_of(self.mask, fields):
            seen = self._seen(active, fields)
            moved = torch.from_numpy(np.flatnonzero(active))
            steps.append(SiteCoupling(moved, seen.places, line, seen.network))  # type: ignore[arg-type]
        return Chain(*steps)

    def _seen(self, active: Mask, fields: Fields) -> Seen:
        usual = "stencil" if fields.sites else "mlp"
        plan = CONTEXTS.build(usual if self.context is None else self.context)
        return plan.seen(active, fields, line_of(self.map, fields))
