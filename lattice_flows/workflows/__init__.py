"""The joiners: run card -> train, generate, analyse, report. `stages` has the entry points.

Nothing is imported here, so that a command loads only what it needs.
"""
