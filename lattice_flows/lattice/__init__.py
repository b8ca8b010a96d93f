"""Geometry on torch fields: spaces, shifts, loops, symmetries."""

from lattice_flows.lattice.geometry import (
    plaquette,
    plaquette_transpose,
    polyakov_loop,
    shift,
    topological_charge,
    wilson_line,
    wilson_loop,
)
from lattice_flows.lattice.spaces import (
    CIRCLE,
    HARMONIC,
    REAL,
    SU2,
    TWO_PI,
    Circle,
    Discrete,
    Interval,
    Mixed,
    Product,
    Real,
    Space,
    Sphere,
)
from lattice_flows.lattice.symmetries import conjugate, gauge_transform, reflect, translate

__all__ = [
    "CIRCLE",
    "HARMONIC",
    "REAL",
    "SU2",
    "TWO_PI",
    "Circle",
    "Discrete",
    "Interval",
    "Mixed",
    "Product",
    "Real",
    "Space",
    "Sphere",
    "conjugate",
    "gauge_transform",
    "plaquette",
    "plaquette_transpose",
    "polyakov_loop",
    "reflect",
    "shift",
    "topological_charge",
    "translate",
    "wilson_line",
    "wilson_loop",
]
