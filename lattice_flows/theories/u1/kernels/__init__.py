"""Compiled kernels of 2D U(1) with the Wilson action."""
