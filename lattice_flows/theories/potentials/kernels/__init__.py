"""Compiled functions of potentials."""
