"""Where field variables live: numbers, angles, unit vectors, group elements, integers."""

from lattice_flows.lattice.spaces.circle import CIRCLE, TWO_PI, Circle
from lattice_flows.lattice.spaces.discrete import Discrete
from lattice_flows.lattice.spaces.harmonic import HARMONIC, Harmonic
from lattice_flows.lattice.spaces.interval import Interval
from lattice_flows.lattice.spaces.mixed import Mixed
from lattice_flows.lattice.spaces.product import Product
from lattice_flows.lattice.spaces.real import REAL, Real
from lattice_flows.lattice.spaces.space import Space
from lattice_flows.lattice.spaces.sphere import Sphere
from lattice_flows.lattice.spaces.su2 import SU2

__all__ = [
    "CIRCLE",
    "HARMONIC",
    "REAL",
    "SU2",
    "TWO_PI",
    "Circle",
    "Discrete",
    "Harmonic",
    "Interval",
    "Mixed",
    "Product",
    "Real",
    "Space",
    "Sphere",
]
