"""The common part of scripts that draw one figure from ensemble files: their command line, input and output.

    python analysis/NAME.py ENSEMBLE.h5... --out FIGURE.pdf

`measure` turns the ensembles into rows (one kind of NamedTuple, whose fields are the columns), `draw` the rows into a
figure, so that FIGURE.csv holds every number that the figure shows.
"""

import argparse
import io
import math
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from lattice_flows.ensembles import Ensemble, EnsembleError
from lattice_flows.errors import InputError, nothing_at
from lattice_flows.estimates.grouping import open_replicas
from lattice_flows.estimates.observables import observables_summary
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.summary_types import ObservableRow
from lattice_flows.outputs import FIGURE, Kind, check_target, write_output
from lattice_flows.regular_files import at_home
from lattice_flows.report.drawing import Axes, Figure, Line2D, rc_context
from lattice_flows.report.style import GREY, STYLE, FigureData, Plot
from lattice_flows.statistics import count_changes

CHARGE = "topological_charge"
EXIT_INPUT = 2

Array = NDArray[np.float64]
Row = TypeVar("Row")

_FORMATS = (".pdf", ".svg", ".png")


def run_script(
    description: str,
    measure: Callable[[Sequence[Replicas]], Sequence[Any]],
    draw: Callable[[Sequence[Any]], Figure],
    arguments: Sequence[str] | None = None,
) -> None:
    """Run a script: read the ensembles given on the command line, write the figure and its numbers.

    description: the script's docstring, shown by --help. measure: returns NamedTuples of one kind, whose fields are the
    columns. draw: makes the figure from them. arguments: default to those of the command line.
    Exits with one line and status 2 if the input is wrong.
    """
    try:
        paths, target = _parsed(description, arguments)
        check_target(target, FIGURE)
        with ExitStack() as stack, rc_context(STYLE):
            rows = measure(open_scan(paths, stack))
            data = FigureData(rows[0]._fields, rows)
            headline = description.partition("\n")[0]
            write_figure(Plot(target.stem, draw(rows), headline, headline, data), target)
    except (InputError, EnsembleError) as error:
        tell(str(error))
        sys.exit(EXIT_INPUT)
    print(f"{target} and {target.with_suffix('.csv').name}: {len(rows)} rows")


def run_campaign_script(
    description: str,
    read_rows: Callable[[Path], Sequence[Any]],
    told: Callable[[Path, Sequence[Any]], str],
    draw: Callable[[Sequence[Any]], Figure],
    headline: str,
) -> None:
    """Run a script on the run folders of a campaign: print what is told of the rows, write the figure and its numbers.

    description: the script's docstring, shown by --help. read_rows: gives NamedTuples of one kind from the campaign's
    folder. told: what is printed, from the folder and the rows. headline: of the figure.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the folder of the campaign")
    parser.add_argument("figure", type=Path, metavar="FIGURE.svg")
    given = parser.parse_args()
    rows = read_rows(given.runs)
    print(told(given.runs, rows))
    with rc_context(STYLE):
        data = FigureData(rows[0]._fields, rows)
        write_figure(Plot(given.figure.stem, draw(rows), headline, headline, data), given.figure)


def tell(message: str) -> None:
    """Tell the user one line about what was given."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)


def open_scan(paths: Sequence[Path], stack: ExitStack) -> list[Replicas]:
    """The ensembles in files of any theories, grouped by `open_replicas` separately for each theory.

    Raises InputError for a path that is not an ensemble or holds no configuration yet, and as `open_replicas` does.
    """
    by_theory: dict[str, list[Path]] = {}
    for path in paths:
        if path.is_dir() or not Ensemble.exists(path):
            raise nothing_at(path, "is not an ensemble file such as ensembles/NAME.h5 of a run")
        with Ensemble.open(path) as file:
            if not file.n_configs:
                raise InputError(f"{path}: holds no configuration yet, it is still thermalising")
            by_theory.setdefault(str(file.attributes.get("theory")), []).append(path)
    return [group for same in by_theory.values() for group in open_replicas(same, stack)]


def require_charge(groups: Iterable[Replicas]) -> None:
    """Raise InputError for an ensemble without a topological charge."""
    for group in groups:
        if not group.has(CHARGE):
            raise InputError(f"{group.files[0].path}: has no topological charge; this figure is for gauge fields")


def require_lattice(groups: Iterable[Replicas]) -> None:
    """Raise InputError for an ensemble of a theory without a lattice."""
    for group in groups:
        if not group.lattice_shape:
            raise InputError(f"{group.files[0].path}: {group.theory['name']} has no lattice; this figure is of volumes")


def charge_changes(group: Replicas) -> int:
    """The number of changes of the topological charge in all chains; fewer than MIN_CHANGES means frozen."""
    return sum(count_changes(chain) for chain in group.series(CHARGE))


def flow_weights(group: Replicas) -> Array:
    """log w = -S - log q of independent samples of a flow, (n_samples,): all proposals, accepted or not.

    Raises InputError if the ensemble holds none.
    """
    log_w = group.proposals("log_w")
    if log_w is None:
        raise InputError(
            f"{group.files[0].path}: holds no weights of flow samples; give flow/evaluation.h5 of a run, or an "
            "ensemble of flow_metropolis"
        )
    return log_w


def estimates_of(group: Replicas, *names: str) -> list[ObservableRow]:
    """The estimates of these quantities, weighted if the ensemble needs it: rows of `lattice-flows analyse`.

    Raises InputError if one has no estimate.
    """
    found, warnings = observables_summary(group)
    for name in names:
        if name not in found:
            about = [text for text in warnings if name in text.partition(":")[0]] or ["it was not measured"]
            raise InputError(f"{group.files[0].path}: no estimate of {name}: {about[0].partition(': ')[2] or about[0]}")
    return [found[name] for name in names]


def or_nan(value: float | None) -> float:
    """A figure of a summary; not-a-number where it is undefined."""
    return math.nan if value is None else value


def lattice(group: Replicas) -> str:
    """The shape of the lattice as text, such as 16x16."""
    return "x".join(map(str, group.lattice_shape))


def split_rows(rows: Iterable[Row], key: Callable[[Row], Hashable]) -> dict[Any, list[Row]]:
    """The rows grouped by key, keys and rows in order of appearance: the lines of a plot."""
    lines: dict[Any, list[Row]] = {}
    for row in rows:
        lines.setdefault(key(row), []).append(row)
    return lines


Standing = Literal["value", "open", "bound"]
"""Of a figure: a value with an error, one whose error cannot be trusted, or a bound from below."""


def draw_figure(axes: Axes, x: float, y: float, error: float, standing: Standing, colour: str, marker: str) -> None:
    """A full symbol for a value, an open one where its error cannot be trusted, an arrow up from a bound."""
    axes.errorbar(
        x,
        y,
        yerr=0.9 * y if standing == "bound" else error,
        lolims=standing == "bound",
        fmt=marker,
        color=colour,
        markersize=5,
        markerfacecolor=colour if standing == "value" else "white",
        elinewidth=1.0,
    )


def standing_handles(doubtful: str, bound: str) -> list[Line2D]:
    """The entries of a legend that say what open symbols and arrows are."""
    return [
        Line2D([], [], color=GREY, marker="o", markerfacecolor="white", linestyle="", label=doubtful),
        Line2D([], [], color=GREY, marker=r"$\uparrow$", markersize=8, linestyle="", label=bound),
    ]


def draw_pull_bands(axes: Axes, pulls: Iterable[float | None]) -> None:
    """Prepare a panel for these values of (value - exact) / error: bands at 1 and 2, limits wide enough for all."""
    for sigma, shade in ((2, "0.93"), (1, "0.85")):
        axes.axhspan(-sigma, sigma, color=shade, linewidth=0, zorder=0)
    edge = max([2.5, *(1.15 * abs(one) for one in pulls if one is not None and math.isfinite(one))])
    axes.set(ylabel="(value − exact)\n/ error", ylim=(-edge, edge))


def write_figure(plot: Plot, target: Path) -> None:
    """Write the figure to `target` (.pdf, .svg or .png) and its numbers as .csv; equal numbers give equal bytes.

    Raises InputError if a file cannot be written, or is neither such a figure nor its numbers.
    """
    numbers = target.with_suffix(".csv")
    check_target(numbers, _table_like(plot.data))
    write_output(target, plot.render(target.suffix[1:]), FIGURE)
    write_table(plot.data, numbers)


def write_table(data: FigureData, target: Path) -> None:
    """Write the numbers as CSV. Raises InputError if the file cannot be written, or has other headings."""
    write_output(target, data.csv(), _table_like(data))


def _table_like(data: FigureData) -> Kind:
    heading = replace(data, rows=()).csv()
    return Kind("a table with the same headings", lambda content: content.startswith(heading))


def save_figure(figure: Figure, target: Path) -> None:
    """Write the figure in the format that the name ends in, without a date.

    Raises InputError if the file cannot be written, or is no such figure.
    """
    check_target(target, FIGURE)
    image = io.BytesIO()
    suffix = target.suffix[1:] or "png"
    figure.savefig(image, format=suffix, metadata={"Date": None} if suffix == "svg" else None, dpi=150)
    write_output(target, image.getvalue(), FIGURE)


def _parsed(description: str, arguments: Sequence[str] | None) -> tuple[list[Path], Path]:
    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise InputError(message)  # one line, without the usage

    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ensembles", nargs="+", type=at_home, metavar="ENSEMBLE.h5", help="ensemble files")
    parser.add_argument(
        "--out", required=True, type=at_home, metavar="FIGURE.pdf", help="FIGURE.csv is written beside it"
    )
    given = parser.parse_args(arguments)
    if given.out.suffix not in _FORMATS:
        raise InputError(f"--out {given.out}: a figure's name must end in {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}")
    return given.ensembles, given.out
