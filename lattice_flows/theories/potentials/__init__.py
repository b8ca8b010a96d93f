"""Potentials of two coordinates: targets without a lattice."""
