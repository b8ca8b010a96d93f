"""2D U(1) with plaquettes and rectangles."""
