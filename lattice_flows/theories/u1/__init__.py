"""2D U(1) with the Wilson action."""
