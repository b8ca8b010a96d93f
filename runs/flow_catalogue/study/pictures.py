"""The picture of a construction: samples, densities and the image of a grid, for each density of the plane."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from study.densities import DENSITIES, EDGE
from torch import Tensor

from lattice_flows.flows import Flow

_N_POINTS = 4000
_PIXELS = 160
_COLOURS = 96
_GREY, _BLUE = "0.55", "#1f6f9f"


def draw_construction(name: str, trained: dict[str, dict[str, Flow]], target: Path) -> None:
    """Draw flows by density and objective, "energy" and "likelihood": a row for each density."""
    figure = Figure(figsize=(6.4, 1.72 * len(trained)), dpi=110, layout="constrained")
    panels = figure.subplots(len(trained), 4, squeeze=False)
    for row, (density, flows) in zip(panels, trained.items(), strict=True):
        _draw_row(row, density, flows)
    for axes, title in zip(panels[0], ("density", "learnt from points", "learnt from the energy", "image of a grid")):
        axes.set_title(title, fontsize=9)
    for axes in panels.flat:
        axes.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), xticks=[], yticks=[], aspect="equal")
    figure.savefig(target, metadata={"Software": None})
    Image.open(target).convert("RGB").quantize(_COLOURS).save(target, optimize=True)


def _draw_row(row: np.ndarray, name: str, flows: dict[str, Flow]) -> None:
    density, one = DENSITIES[name](), flows.get("likelihood", flows["energy"])
    row[0].set_ylabel(name.replace("_", " "), fontsize=9)
    _draw_density(row[0], density.log_prob(_grid()))
    if "likelihood" in flows:
        _draw_density(row[1], one.log_prob(_grid()))
    else:
        row[1].text(0.0, 0.0, "no inverse", ha="center", color=_GREY, fontsize=8)
    _draw_samples(row[2], flows["energy"])
    _draw_image_of_grid(row[3], one)


def _grid() -> Tensor:
    line = torch.linspace(-EDGE, EDGE, _PIXELS, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def _draw_density(axes: Axes, log_p: Tensor) -> None:
    p = np.exp(log_p.detach().numpy()).reshape(_PIXELS, _PIXELS).T
    axes.imshow(p, origin="lower", extent=(-EDGE, EDGE, -EDGE, EDGE), cmap="Blues", vmax=np.quantile(p, 0.995))


def _draw_samples(axes: Axes, flow: Flow) -> None:
    x, _ = flow.sample(_N_POINTS, torch.Generator().manual_seed(3))
    axes.plot(*x.detach().T, ",", color=_BLUE, alpha=0.7, rasterized=True)


def _draw_image_of_grid(axes: Axes, flow: Flow) -> None:
    """Lines of constant coordinates of the normal deviate, up to 2.5 standard deviations."""
    along, lines = torch.linspace(-2.5, 2.5, 300, dtype=torch.float64), torch.linspace(-2.5, 2.5, 15)
    for place in lines.double():
        constant = torch.full_like(along, float(place))
        for points in (torch.stack([along, constant], 1), torch.stack([constant, along], 1)):
            axes.plot(*flow.transform.forward(points)[0].detach().T, color=_GREY, linewidth=0.5)
