"""A bistable dimer in a bath of soft discs: a target without a lattice."""
