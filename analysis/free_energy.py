"""The free energy: log Z per site against beta, from the weights of flows and from Markov chains joined by MBAR.

    python analysis/free_energy.py output/*/flow/evaluation.h5 output/*/ensembles/hmc.h5 --out free_energy.pdf

Weights of flows give log Z itself. Ensembles of one name and lattice at several couplings, that have no weights, give
differences from their smallest beta (arXiv:0801.1426, from the series of the action; errors by a jackknife over 20
blocks of all chains); the figure begins them at the closed form. One coupling alone is left out, and told. Below:
differences from the closed form in errors. Open symbols: unreliable weights, a frozen charge, or blocks shorter than
ten tau_int of the action.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from lattice_flows.errors import InputError
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.weights import weights_summary
from lattice_flows.report.drawing import Figure
from lattice_flows.report.figure_script import (
    charge_changes,
    draw_pull_bands,
    flow_weights,
    lattice,
    require_charge,
    run_script,
    split_rows,
    tell,
)
from lattice_flows.report.style import GREY, WIDTH, colour, legend_above, marker
from lattice_flows.statistics import MIN_CHANGES, N_BLOCKS, ValueWithError, gamma_method, log_z_differences, pull
from lattice_flows.theories import ExactU1

BLOCK_IN_TAU = 10
MOST_POTENTIALS = 200_000  # configurations times couplings in MBAR; so many of each coupling, evenly taken


class Row(NamedTuple):
    """log_z of beta, or its difference from that of reference_beta; pull: (log_z - exact) / error."""

    ensemble: str
    method: str
    lattice: str
    n_sites: int
    beta: float
    reference_beta: float | None
    log_z: float
    error: float
    exact: float
    pull: float
    reliable: bool


def measure(groups: Sequence[Replicas]) -> list[Row]:
    """Rows of weights and of chains, by beta."""
    require_charge(groups)
    weighted = [group for group in groups if group.proposals("log_w") is not None]
    scans = split_rows([group for group in groups if group not in weighted], lambda group: (group.name, lattice(group)))
    if not weighted:
        require_several(scans.values())
    joinable = [scan for scan in scans.values() if len(scan) > 1]
    for group in [scan[0] for scan in scans.values() if len(scan) == 1]:
        tell(f"{group.files[0].path}: is left out: one beta alone has no difference of log Z")
    rows = [*map(row_of_weights, weighted), *(row for scan in joinable for row in rows_of_chains(scan))]
    return sorted(rows, key=lambda row: row.beta)


def row_of_weights(group: Replicas) -> Row:
    """log Z = log mean w."""
    weights, exact = weights_summary(flow_weights(group)), closed_form(group)
    figures = weights["log_z"], weights["log_z_error"], exact.log_z
    about = (group.name, "weights", lattice(group), exact.n_sites, exact.beta, None)
    return Row(*about, *figures, pull(*figures), weights["log_z_reliable"])


def rows_of_chains(scan: Iterable[Replicas]) -> list[Row]:
    """log Z(beta) - log Z(smallest beta) of one name and lattice."""
    groups = sorted(scan, key=lambda group: group.theory["beta"])
    require_joinable(groups)
    start, rows = closed_form(groups[0]), []
    reliable = all(has_long_blocks(group) and charge_changes(group) >= MIN_CHANGES for group in groups)
    for group, difference in zip(groups[1:], differences(groups)):
        exact = closed_form(group)
        figures = *difference, exact.log_z - start.log_z
        about = (group.name, "MBAR", lattice(group), exact.n_sites, exact.beta, start.beta)
        rows.append(Row(*about, *figures, pull(*figures), reliable))
    return rows


def require_several(scans: Iterable[list[Replicas]]) -> None:
    """Raises InputError where every scan has one coupling alone."""
    alone = [scan[0] for scan in scans if len(scan) == 1]
    if alone and all(len(scan) == 1 for scan in scans):
        raise InputError(f"{alone[0].files[0].path}: one beta alone has no difference of log Z; give several, or flows")


def require_joinable(groups: Sequence[Replicas]) -> None:
    """Raises InputError for chains that MBAR cannot take, or whose actions do not meet: it would search for long."""
    for group in groups:
        if group.weighted or not group.has("action") or not group.theory["beta"] > 0:
            raise InputError(f"{group.files[0].path}: MBAR needs the action of chains without weights, at beta > 0")
    betas = [group.theory["beta"] for group in groups]
    energies = [np.concatenate(group.series("action")) / beta for group, beta in zip(groups, betas)]
    for k, (one, other) in enumerate(pairwise(energies)):
        if other.max() < one.min():
            raise InputError(
                f"{groups[0].name}, {lattice(groups[0])}: the actions at beta = {betas[k]:g} and {betas[k + 1]:g} do "
                "not overlap; MBAR needs couplings between"
            )


def differences(groups: Sequence[Replicas]) -> list[ValueWithError]:
    """log Z of every coupling less that of the first."""
    betas = [group.theory["beta"] for group in groups]
    try:
        return log_z_differences([thinned(group, len(groups)) for group in groups], betas)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{groups[0].name}, {lattice(groups[0])}: no MBAR of these couplings: {error}") from None


def thinned(group: Replicas, n_couplings: int) -> list[np.ndarray]:
    """S / beta along every chain; of a long ensemble every n-th value, as many as MBAR can take."""
    chains = group.series("action")
    stride = -(-sum(map(len, chains)) * n_couplings**2 // MOST_POTENTIALS)
    return [chain[::stride] / group.theory["beta"] for chain in chains]


def has_long_blocks(group: Replicas) -> bool:
    """Whether a block of the jackknife is longer than ten tau_int of the action."""
    chains = group.series("action")
    return min(map(len, chains)) / N_BLOCKS > BLOCK_IN_TAU * gamma_method(chains).tau_int


def closed_form(group: Replicas) -> ExactU1:
    """Of the group's coupling and lattice."""
    return ExactU1(group.theory["beta"], int(np.prod(group.theory["shape"])))


def draw(rows: Sequence[Row]) -> Figure:
    """log Z / V above, what it misses below."""
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 1.0])
    lowest = min(row.beta if row.reference_beta is None else row.reference_beta for row in rows)
    highest = max(row.beta for row in rows)
    around = 0.0 if lowest < highest else 0.1 * highest  # of a single point
    betas = np.linspace(lowest - around, highest + around, 100)
    for k, n_sites in enumerate(sorted({row.n_sites for row in rows})):
        exact, dashes = [ExactU1(beta, n_sites).log_z / n_sites for beta in betas], ("-", "--", ":", "-.")[k % 4]
        upper.plot(betas, exact, dashes, color="0.2", linewidth=1.0, label=f"exact, $V = {n_sites}$", zorder=1)
    lines = split_rows(rows, lambda row: (row.ensemble, row.lattice))
    for i, ((ensemble, shape), line) in enumerate(lines.items()):
        upper.plot([], [], marker(i), color=colour(i), label=f"{ensemble}, {shape.replace('x', '×')}")
        for row in line:
            anchor = 0.0 if row.reference_beta is None else ExactU1(row.reference_beta, row.n_sites).log_z
            look = {"color": colour(i), "markerfacecolor": colour(i) if row.reliable else "white"}
            density = (anchor + row.log_z) / row.n_sites
            upper.errorbar(row.beta, density, row.error / row.n_sites, fmt=marker(i), elinewidth=1.0, **look)
            lower.plot(row.beta, row.pull, marker(i), **look)
    if not all(row.reliable for row in rows):
        upper.plot([], [], "o", color=GREY, markerfacecolor="white", label="unreliable")
    draw_pull_bands(lower, [row.pull for row in rows])
    upper.set_ylabel(r"$\log Z\,/\,V$")
    upper.ticklabel_format(useOffset=False)
    lower.set_xlabel(r"$\beta$")
    legend_above(figure)
    return figure


if __name__ == "__main__":
    run_script(__doc__, measure, draw)
