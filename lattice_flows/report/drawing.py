"""What figures are made of. Nothing else imports matplotlib: see `import_matplotlib`."""

from lattice_flows.headless import import_matplotlib

import_matplotlib()

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

__all__ = [
    "Axes",
    "ConstrainedLayoutEngine",
    "Figure",
    "Line2D",
    "LogFormatter",
    "LogLocator",
    "MaxNLocator",
    "NullFormatter",
    "NullLocator",
    "rc_context",
]
