"""Planar spins on the sites of a square lattice: the XY model and Villain's form of it."""
