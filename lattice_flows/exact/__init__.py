"""Closed forms and direct samplers: the oracle that everything else is tested against."""

from lattice_flows.exact.direct_u1 import sample_u1
from lattice_flows.exact.free_field import FreeField, sample_free_field
from lattice_flows.exact.u1 import ExactU1

__all__ = ["ExactU1", "FreeField", "sample_free_field", "sample_u1"]
