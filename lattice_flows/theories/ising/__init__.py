"""The Ising model on a two-dimensional torus."""
