"""Free energy profiles as a table, as JSON and as a figure."""

import json
import math
from pathlib import Path
from typing import Any

from rich.table import Table

from lattice_flows.errors import InputError
from lattice_flows.estimates.profiles import Profiles
from lattice_flows.outputs import FIGURE, PROFILES, check_target, write_output
from lattice_flows.production.run_folder import require_outside_of_runs
from lattice_flows.report.drawing import rc_context
from lattice_flows.report.style import STYLE, FigureData, Plot, colour, legend_above, marker, single
from lattice_flows.report.terminal_tables import titled
from lattice_flows.terminal.numbers import number, with_error
from lattice_flows.theories.observable import named


def check_targets(json_file: Path | None, svg: Path | None) -> None:
    """Raise InputError, before any work, for files that are something else, and for a figure that is not to be SVG."""
    if svg is not None and svg.suffix != ".svg":
        raise InputError(f"--svg {svg}: must be the name of an SVG file, NAME.svg")
    for path, kind in ((json_file, PROFILES), (svg, FIGURE)):
        if path is not None:
            check_target(path, kind)
            require_outside_of_runs(path)


def profiles_table(found: Profiles) -> Table:
    """A row for each bin, by its centre, and a column for each ensemble; '-' where there are no samples."""
    table = titled(f"F = -log p of {found.series}", (found.series, *found.profiles), n_names=0)
    profiles = list(found.profiles.values())
    for k, centre in enumerate(profiles[0].centres):
        cells = [with_error(_known(one.values[k]), _known(one.errors[k])) for one in profiles]
        table.add_row(number(float(centre), 4), *cells)
    return table


def write_profiles(found: Profiles, json_file: Path | None, svg: Path | None) -> None:
    """Write the numbers and the figure, each where a file is given."""
    if json_file is not None:
        write_output(json_file, (json.dumps(_table(found), indent=1) + "\n").encode(), PROFILES)
    if svg is not None:
        write_output(svg, profiles_plot(found).render("svg"), FIGURE)


def profiles_plot(found: Profiles) -> Plot:
    """F(s) of each ensemble with its errors."""
    with rc_context(STYLE):
        figure, axes = single(3.2)
        for i, (name, one) in enumerate(found.profiles.items()):
            axes.errorbar(
                one.centres, one.values, one.errors, marker=marker(i), color=colour(i), elinewidth=1.0, label=name
            )
        axes.set(xlabel=named(found.series).tex, ylabel=r"$F = -\log p$")
        legend_above(figure)
    rows = [
        (name, float(s), float(value), float(error))
        for name, one in found.profiles.items()
        for s, value, error in zip(*one)
    ]
    names = ", ".join(found.profiles)
    return Plot(
        "profile",
        figure,
        f"The free energy along {found.series} of {names}.",
        f"The free energy -log p along {found.series}, in units of kT. Errors of neighbouring bins are correlated.",
        FigureData(("ensemble", found.series, "free energy", "error"), rows),
    )


def _table(found: Profiles) -> dict[str, Any]:
    profiles = {
        name: {
            "free_energy": [_known(value) for value in one.values],
            "error": [_known(error) for error in one.errors],
        }
        for name, one in found.profiles.items()
    }
    return {
        "theory": found.theory,
        "series": found.series,
        "edges": found.edges.tolist(),
        "profiles": profiles,
        "warnings": list(found.warnings),
    }


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
