"""Compiled kernels of planar spins."""
