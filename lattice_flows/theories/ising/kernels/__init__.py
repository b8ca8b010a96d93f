"""Compiled kernels of the Ising model."""
