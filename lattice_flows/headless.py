"""matplotlib without a screen, whatever MPLBACKEND says."""

import os
import sys
from contextlib import suppress


def import_matplotlib() -> None:
    """Import matplotlib, for figures that are drawn in memory, by Agg and its like, and never shown.

    A notebook hands its own backend on to the programs that it starts, and `import matplotlib` ends with an error where
    that is not installed. So it is imported without it; in a notebook itself pyplot keeps its backend.
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):  # there is no such backend here
            matplotlib.rcParams["backend"] = backend
