"""The picture of a Boltzmann generator: target and samples, latent space, lines between states, and F."""

import math
from pathlib import Path

import numpy as np
from generator.finished import Finished, image, latent
from generator.systems import Array, System
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image

from lattice_flows.statistics.profiles import by_weights, profile

_N_POINTS, _N_LINES, _N_ON_LINE, _PIXELS, _N_BINS, _COLOURS = 3000, 6, 200, 240, 30, 128
_BASIN, _OTHER, _GREY = "#1f6f9f", "#c8622d", "0.55"
_FINE = 16  # points of the quadrature in a bin


def draw(run: Finished, target: Path) -> None:
    """Write the picture, a PNG."""
    figure = Figure(figsize=(9.6, 5.6), dpi=110, layout="constrained")
    panels = figure.subplot_mosaic("abc\ndde")
    _draw_target(panels["a"], run)
    _draw_latent(panels["b"], run)
    _draw_lines(panels["c"], panels["e"], run)
    _draw_profile(panels["d"], run)
    figure.savefig(target, metadata={"Software": None})
    Image.open(target).convert("RGB").quantize(_COLOURS).save(target, optimize=True)


def _draw_target(axes: Axes, run: Finished) -> None:
    """Samples of the flow, without weights, over lines of equal S."""
    _contours(axes, run.system)
    _scatter(axes, run.system, run.samples[:_N_POINTS], run.samples[:_N_POINTS])
    axes.set(title="samples of the flow", xlabel="x", ylabel="y")


def _draw_latent(axes: Axes, run: Finished) -> None:
    """Where configurations of the target lie in the latent space, by their state."""
    x = _of_yardstick(run)
    _scatter(axes, run.system, latent(run.flow, x), x)
    for radius in (1.0, 2.0, 3.0):  # of the Gaussian prior
        axes.add_artist(_circle(radius))
    axes.set(title="configurations in latent space", xlabel="$z_0$", ylabel="$z_1$", xlim=(-4, 4), ylim=(-4, 4))
    axes.set_aspect("equal")


def _draw_lines(axes: Axes, below: Axes, run: Finished) -> None:
    """Images of straight lines between both states in latent space, and S along them."""
    x, system = _of_yardstick(run), run.system
    at = system.inside(x)
    t = np.linspace(0.0, 1.0, _N_ON_LINE)
    _contours(axes, system)
    lowest = float(system.action.evaluate(np.array(system.minima)).min())
    for first, last in zip(latent(run.flow, x[at][:_N_LINES]), latent(run.flow, x[~at][:_N_LINES]), strict=True):
        path = image(run.flow, first + t[:, None] * (last - first))
        (line,) = axes.plot(*path.T, linewidth=1.1)
        below.plot(t, system.action.evaluate(path) - lowest, linewidth=1.1, color=line.get_color())
    axes.set(title="straight lines in latent space", xlabel="x", ylabel="y")
    below.set(
        xlabel="along the line", ylabel="$S - S_{min}$", ylim=(0, 1.4 * system.highest), title="S along these lines"
    )


def _draw_profile(axes: Axes, run: Finished) -> None:
    """F along the coordinate of the basin, by weighted samples and by quadrature."""
    system, k = run.system, run.system.action.basin.axis
    edges = np.linspace(*system.window[k], _N_BINS + 1)
    found = profile(run.samples[:, k][:, None], edges, by_weights(run.log_w[:, None]))
    exact = exact_profile(system, edges)
    shift = exact.min()
    axes.plot(found.centres, exact - shift, color=_GREY, linewidth=1.2, label="quadrature")
    axes.errorbar(
        found.centres, found.values - shift, found.errors, fmt="o", markersize=3, color=_BASIN, label="weighted samples"
    )
    axes.axvline(system.action.basin.edge, color=_GREY, linewidth=0.7, linestyle=":")
    axes.set(xlabel="xy"[k], ylabel="F [kT]", ylim=(-0.5, system.highest), title=f"free energy along {'xy'[k]}")
    axes.legend(frameon=False)


def exact_profile(system: System, edges: Array) -> Array:
    """F = -log p averaged over each bin, by the trapezoidal rule in the plane."""
    k = system.action.basin.axis
    log_z = system.action.closed_forms(()).log_z
    width = (edges[1] - edges[0]) / _FINE
    s = (edges[:-1, None] + width * (np.arange(_FINE) + 0.5)).ravel()  # midpoints
    r = np.linspace(-6.0, 6.0, 2401)
    points = np.stack(np.meshgrid(s, r, indexing="ij"), axis=-1)[..., :: 1 if k == 0 else -1].reshape(-1, 2)
    p = np.exp(-system.action.evaluate(np.ascontiguousarray(points)) - log_z).reshape(len(s), len(r)).sum(1)
    return np.asarray(-np.log(p.reshape(-1, _FINE).mean(1) * (r[1] - r[0])))


def _of_yardstick(run: Finished) -> Array:
    """As many configurations of either state, which have nothing to do with the flow."""
    x = run.yardstick.reshape(-1, 2)
    at = run.system.inside(x)
    return np.concatenate([part[:: max(1, math.ceil(2 * len(part) / _N_POINTS))] for part in (x[at], x[~at])])


def _scatter(axes: Axes, system: System, points: Array, x: Array) -> None:
    """Points in the colour of the state of x."""
    at = system.inside(x)
    axes.plot(*points[at].T, ".", markersize=1.5, color=_BASIN, label=system.basin)
    axes.plot(*points[~at].T, ".", markersize=1.5, color=_OTHER, label="the rest")
    axes.legend(frameon=False, fontsize=7, markerscale=5, loc="upper right")


def _contours(axes: Axes, system: System) -> None:
    x, y = (np.linspace(*ends, _PIXELS) for ends in system.window)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    s = system.action.evaluate(points).reshape(_PIXELS, _PIXELS)
    levels = s.min() + np.linspace(0.0, 1.5 * system.highest, 13)
    axes.contour(x, y, s, levels=levels, colors="0.75", linewidths=0.5, linestyles="solid")
    axes.set(xlim=system.window[0], ylim=system.window[1])


def _circle(radius: float) -> Circle:
    return Circle((0.0, 0.0), radius, fill=False, color=_GREY, linewidth=0.6)
