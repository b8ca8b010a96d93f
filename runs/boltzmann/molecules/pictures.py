"""The figures of alanine dipeptide."""

import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.flows import Flow
from lattice_flows.report.style import COLOURS
from lattice_flows.statistics import by_weights, profile
from lattice_flows.theories import MolecularAction

Array = NDArray[np.float64]
Angles = tuple[Array, Array]

_BINS = np.linspace(-math.pi, math.pi, 61)
_DEGREES = 180.0 / math.pi
_TICKS = (-180, -90, 0, 90, 180)
_LARGEST = 9.0  # kT in the colours of the maps


def draw_ramachandran(flow: Angles, log_w: Array, chains: Angles, target: Path) -> None:
    """Free energies of phi and psi: replica exchange, the flow's samples by their weights, and as they are."""
    figure = Figure(figsize=(8.4, 3.0), dpi=110, layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    columns = (
        ("replica exchange", (chains[0].ravel(), chains[1].ravel()), None),
        ("flow, weighted", flow, np.exp(log_w - log_w.max())),
        ("flow, unweighted", flow, None),
    )
    for axes, (title, (phi, psi), weights) in zip(panels, columns):
        density = np.histogram2d(phi, psi, bins=(_BINS, _BINS), weights=weights, density=True)[0]
        with np.errstate(divide="ignore"):
            f = -np.log(density)
        edges = (-180, 180, -180, 180)
        shown = axes.imshow(
            (f - f.min()).T, origin="lower", extent=edges, cmap="viridis", vmax=_LARGEST, aspect="equal"
        )
        axes.set(title=title, xlabel="phi [degrees]", xticks=(-180, -90, 0, 90, 180), yticks=(-180, -90, 0, 90, 180))
    panels[0].set_ylabel("psi [degrees]")
    figure.colorbar(shown, ax=panels, label="F - min F [kT]")
    figure.savefig(target, metadata={"Software": None})


def draw_profiles(phi: Array, log_w: Array, chains: Array, target: Path) -> None:
    """The free energy along phi: of samples (n_configs, n_chains) with their weights, and of the reference."""
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    found = {
        "flow, weighted": profile(phi, _BINS[::2], by_weights(log_w)),
        "replica exchange": profile(chains, _BINS[::2]),
    }
    for (label, one), colour, fmt in zip(found.items(), COLOURS, ("o", "s")):
        _draw_profile(axes, one.centres, one.values - np.nanmin(one.values), one.errors, label, colour, fmt)
    axes.set(xlabel="phi [degrees]", ylabel="F - min F [kT]", xlim=(-180, 180))
    axes.legend()
    figure.savefig(target, metadata={"Date": None})


def _draw_profile(axes: Axes, s: Array, f: Array, errors: Array, label: str, colour: str, fmt: str) -> None:
    axes.errorbar(_DEGREES * s, f, errors, fmt=fmt, markersize=3.5, linewidth=1.0, color=colour, label=label)


def draw_path(flow: Flow, action: MolecularAction, start: Tensor, end: Tensor, target: Path, n: int = 101) -> None:
    """S along the image of a straight line in latent space from one configuration to another, and along the straight
    line between the configurations themselves, turned onto each other."""
    with torch.no_grad():
        z, _ = flow.transform.inverse(torch.stack([start, end]))
        share = torch.linspace(0.0, 1.0, n, dtype=torch.float64)[:, None, None]
        step = flow.prior.space.wrap((z[1] - z[0])[None])  # torsions go the shorter way
        through = action(flow.transform.forward(flow.prior.space.wrap(z[0] + share * step))[0]).numpy()
        straight = action(start + share * (_turned_onto(end, start) - start)).numpy()
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for values, label, colour in zip((through, straight), ("in latent space", "between positions"), COLOURS):
        axes.plot(share.ravel(), values - action.reference_action, color=colour, label=label)
    axes.set(xlabel="share of the way", ylabel="S - S of the reference", yscale="symlog")
    axes.legend()
    figure.savefig(target, metadata={"Date": None})


def _turned_onto(x: Tensor, other: Tensor) -> Tensor:
    """x (n_atoms, 3) moved and turned to lie closest to another configuration (W. Kabsch, Acta Cryst. A 32 (1976)
    922)."""
    one, two = x - x.mean(0), other - other.mean(0)
    u, _, v = torch.linalg.svd(one.T @ two)
    signs = torch.ones(3, dtype=x.dtype)
    signs[2] = torch.sign(torch.linalg.det(u @ v))
    return one @ (u * signs) @ v + other.mean(0)
