"""Molecules at a temperature, with the energies and forces of OpenMM."""
