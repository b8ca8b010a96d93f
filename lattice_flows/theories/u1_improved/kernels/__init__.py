"""Compiled kernels of 2D U(1) with plaquettes and rectangles."""
