"""Pictures of masks and of maps of one variable: diagrams.py FIGURES, a folder that receives masks.png and maps.png."""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from lattice_flows.exit_status import run_as_command
from lattice_flows.flows import CIRCLE_MAPS, LINE_MAPS, Fields
from lattice_flows.flows.transforms.masks import masks_of
from lattice_flows.lattice import REAL
from lattice_flows.theories import Phi4

_SIDE = 8
_SHADES = ["#1f6f9f", "#6fa8c9", "#c6dcea", "#e8b04a", "#f3d9a4", "#8c8c8c", "#d9d9d9", "#444444"]
_N_CURVES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path)
    figures = parser.parse_args().figures
    figures.mkdir(parents=True, exist_ok=True)
    draw_masks(figures / "masks.png")
    draw_maps(figures / "maps.png")


def draw_masks(target: Path) -> None:
    """The order in which the sites move, dark first; on 9x9 there are three colours."""
    shown = [("checkerboard", _SIDE), ("checkerboard", 9), ("stripes", _SIDE), ("hierarchical", _SIDE), ("random", 8)]
    figure = Figure(figsize=(8.2, 1.9), dpi=110, layout="constrained")
    for axes, (name, side) in zip(figure.subplots(1, len(shown)), shown, strict=True):
        fields = Fields((side, side), (side, side), REAL, 1.0, Phi4(-4.0, 8.0))
        steps = masks_of(name, fields)
        last = np.zeros((side, side), int)
        for k, step in enumerate(steps):
            last[step] = k
        axes.imshow(last, cmap=ListedColormap(_SHADES[: len(steps)]))
        axes.set_title(f"{name}, {side}x{side}", fontsize=9)
        axes.set(xticks=[], yticks=[])
    figure.savefig(target, metadata={"Software": None})


def draw_maps(target: Path) -> None:
    """y(x) of every map with random parameters, of normal deviates on the left and of angles on the right."""
    generator = torch.Generator().manual_seed(4)
    names = [*LINE_MAPS.maps, *CIRCLE_MAPS.maps]
    n_columns = 5
    figure = Figure(figsize=(8.2, 1.75 * -(-len(names) // n_columns)), dpi=110, layout="constrained")
    panels = list(figure.subplots(-(-len(names) // n_columns), n_columns).flat)
    for axes, name in zip(panels, LINE_MAPS.maps):
        _draw_line_map(axes, name, generator)
    for axes, name in zip(panels[len(LINE_MAPS.maps) :], CIRCLE_MAPS.maps):
        _draw_circle_map(axes, name, generator)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    figure.savefig(target, metadata={"Software": None})


def _draw_line_map(axes: Axes, name: str, generator: torch.Generator) -> None:
    line, x = LINE_MAPS.build(name), torch.linspace(-4.0, 4.0, 300, dtype=torch.float64)
    for shade in _SHADES[:_N_CURVES]:
        even, odd = (torch.randn(n, 1, generator=generator, dtype=torch.float64) for n in (line.n_even, line.n_odd))
        axes.plot(x, line.forward(x, even, odd)[0], color=shade, linewidth=1.2)
    axes.set_title(name, fontsize=9)
    axes.set(xlim=(-4, 4), ylim=(-6, 6), xticks=[], yticks=[])


def _draw_circle_map(axes: Axes, name: str, generator: torch.Generator) -> None:
    circle, x = CIRCLE_MAPS.build(name), torch.linspace(-torch.pi, torch.pi, 300, dtype=torch.float64)
    for shade in _SHADES[:_N_CURVES]:
        parameters = torch.randn(1, circle.n_parameters, generator=generator, dtype=torch.float64)
        axes.plot(x, circle.forward(x, parameters)[0], color=shade, linewidth=1.2)
    axes.set_title(f"{name} (angles)", fontsize=9)
    axes.set(xlim=(-np.pi, np.pi), ylim=(-6, 6), xticks=[], yticks=[])


if __name__ == "__main__":
    run_as_command(main)
