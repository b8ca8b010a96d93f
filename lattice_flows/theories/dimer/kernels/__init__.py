"""Compiled functions of the dimer in its bath."""
