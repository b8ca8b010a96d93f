"""Estimates: the numbers of summary.json, computed from ensemble files, and how far they can be trusted."""
