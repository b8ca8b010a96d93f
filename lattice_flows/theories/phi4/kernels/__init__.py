"""Compiled kernels of the one-component phi^4 theory."""
