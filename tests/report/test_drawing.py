"""Figures need no screen, and no backend of a notebook."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lattice_flows

PACKAGE = Path(lattice_flows.__file__).parent
DRAW = """
import os, sys
from lattice_flows.report.style import FigureData, Plot, single
figure, axes = single(2.0)
axes.plot([1, 2])
plot = Plot("a", figure, "", "", FigureData((), ()))
begin = [plot.render(suffix)[:5] for suffix in ("svg", "pdf", "png")]
assert begin == [b"<?xml", b"%PDF-", b"\\x89PNG\\r"], begin
assert "matplotlib.pyplot" not in sys.modules
import matplotlib
print(os.environ["MPLBACKEND"], dict.__getitem__(matplotlib.rcParams, "backend"))
"""


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [("svg", "svg"), ("module://there.is.none", None)],
)
def test_a_figure_is_drawn_whatever_the_backend(wanted, kept):
    """One that is there is kept for pyplot, which is the user's."""
    environment = {**os.environ, "MPLBACKEND": wanted}
    done = subprocess.run([sys.executable, "-c", DRAW], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    environment_then, _, backend = done.stdout.rstrip("\n").partition(" ")
    assert environment_then == wanted
    assert kept is None or backend == kept


def test_matplotlib_is_imported_in_one_place():
    """Elsewhere the import would end with an error: analysis/ draws with the same names."""
    files = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "analysis").glob("*.py")]
    importing = {file.name for file in files if re.search(r"^\s*(import|from) matplotlib", file.read_text(), re.M)}
    assert importing == {"headless.py", "drawing.py"}
