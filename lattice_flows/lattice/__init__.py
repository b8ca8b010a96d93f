"""Geometry on torch fields: spaces, shifts, loops, symmetries."""

from lattice_flows.lattice.geometry import (
    plaquette,
    polyakov_loop,
    shift,
    topological_charge,
    wilson_line,
    wilson_loop,
)
from lattice_flows.lattice.space import CIRCLE, REAL, TWO_PI, Circle, Real, Space
from lattice_flows.lattice.symmetries import conjugate, gauge_transform, reflect, translate

__all__ = [
    "CIRCLE",
    "REAL",
    "TWO_PI",
    "Circle",
    "Real",
    "Space",
    "conjugate",
    "gauge_transform",
    "plaquette",
    "polyakov_loop",
    "reflect",
    "shift",
    "topological_charge",
    "translate",
    "wilson_line",
    "wilson_loop",
]
