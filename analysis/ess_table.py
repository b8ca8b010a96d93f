"""How good flows get, and in what time: python analysis/ess_table.py output/ess_table ess_table.csv

Reads every finished training below the folder: what runs/ess_table/train.py made, or runs of any other cards. Prints a
table in Markdown, a row for each flow, theory and training, over its seeds: the median and the worst ESS, each with its
error, from fresh samples; the rest is of the seed with the median (the better one of two), but for the largest weight
and k-hat, which are the worst of all seeds. log Z and the observables are held against closed forms; below the table is
chi^2 of all seeds whose log Z is reliable (ESS * N >= 200, Pareto k-hat <= 0.5). "at most": ESS * N < 200 or
k-hat > 0.3, where an ESS has no error. The CSV file has a row for every seed.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from scipy.stats import chi2

from lattice_flows.card.build import couplings_of
from lattice_flows.card.card import Card
from lattice_flows.ensembles import EnsembleError
from lattice_flows.errors import InputError
from lattice_flows.estimates.analysis import flow_summary
from lattice_flows.estimates.summary_types import FlowSummary
from lattice_flows.production.run_folder import RunFolder, find_run
from lattice_flows.report.figure_script import EXIT_INPUT, or_nan, split_rows, write_table
from lattice_flows.report.style import FigureData
from lattice_flows.statistics import pull
from lattice_flows.terminal.numbers import number, with_error
from lattice_flows.training import CheckpointError


class Row(NamedTuple):
    """One training. `reference` is that of log_z; the pulls are (value - reference) / error; largest_weight is in
    units of the mean weight; `training` is the card's table, which rows of one flow have in common."""

    flow: str
    theory: str
    shape: str
    couplings: str
    seed: int
    train_seconds: float
    steps: int
    n_parameters: int
    n_samples: int
    ess: float
    ess_error: float
    largest_weight: float
    pareto_k: float
    log_z_reliable: bool
    ess_reliable: bool
    log_z: float
    log_z_error: float
    reference: float | None
    log_z_pull: float | None
    plaquette_pull: float | None
    charge_squared_pull: float | None
    options: str
    training: str


def read_rows(out: Path) -> list[Row]:
    """The trainings below the folder that are finished, by theory, flow and seed. Raises InputError without any."""
    finished = [path.parents[1] for path in sorted(out.rglob("flow/evaluation.h5"))]
    if not finished:
        raise InputError(f"{out}: holds no finished training, RUN/flow/evaluation.h5")
    rows = [row_of(*find_run(folder, None)) for folder in finished]
    return sorted(rows, key=lambda row: (row.theory, row.flow, row.couplings, n_sites(row), row.seed))


def n_sites(row: Row) -> int:
    """The volume of its lattice; 1 without one."""
    return math.prod(map(int, filter(None, row.shape.split("x"))))


def row_of(folder: RunFolder, card: Card) -> Row:
    """What the weights of a run's fresh samples say of its flow, and of the theory."""
    assert card.flow is not None
    theory, flow = card.theory.as_dict(), card.flow.as_dict()
    found = flow_summary(folder, card)
    known = known_values(found)
    return Row(
        flow=" ".join(flow[key] for key in ("name", "conditioner", "coefficients") if key in flow),
        theory=theory["name"],
        shape="x".join(map(str, card.theory.shape)),
        couplings=", ".join(f"{name} = {value:.4g}" for name, value in couplings_of(theory).items()),
        seed=card.seed,
        train_seconds=found["train_seconds"],
        steps=found["n_steps"],
        n_parameters=found["n_parameters"],
        n_samples=found["n_samples"],
        ess=found["ess"],
        ess_error=found["ess_error"],
        largest_weight=found["largest_weight_share"] * found["n_samples"],
        pareto_k=or_nan(found["pareto_k"]),
        log_z_reliable=found["log_z_reliable"],
        ess_reliable=found["ess_reliable"],
        log_z=found["log_z"],
        log_z_error=found["log_z_error"],
        reference=known.get("log_z"),
        log_z_pull=pull_of(found["log_z"], found["log_z_error"], known.get("log_z")),
        plaquette_pull=observable_pull(found, "plaquette", known),
        charge_squared_pull=observable_pull(found, "topological_charge_squared", known),
        options=json.dumps(flow),
        training=json.dumps(vars(card.training)),
    )


def known_values(summary: FlowSummary) -> dict[str, float]:
    """The closed forms that a flow's summary holds."""
    exact = {name: each["exact"] for name, each in summary["observables"].items()} | {"log_z": summary["log_z_exact"]}
    return {name: value for name, value in exact.items() if value is not None}


def observable_pull(summary: FlowSummary, name: str, known: dict[str, float]) -> float | None:
    """Of the reweighted samples of a flow."""
    one = summary["observables"].get(name)
    return None if one is None else pull_of(or_nan(one["value"]), or_nan(one["error"]), known.get(name))


def pull_of(value: float, error: float, known: float | None) -> float | None:
    """(value - known) / error; None where nothing is known, or where there is no error."""
    return None if known is None or not error > 0 else pull(value, error, known)


HEADINGS = (
    "flow",
    "theory",
    "lattice",
    "seeds",
    "s",
    "steps",
    "parameters",
    "ESS, median",
    "ESS, worst",
    "largest weight / mean",
    "k-hat",
    "log Z",
    "reference",
    "pulls of log Z, P, Q^2",
)


def table(rows: Sequence[Row]) -> str:
    """In Markdown, a line for each flow, theory and training."""
    lines = [cells(seeds) for seeds in split_rows(rows, lambda row: (*row[:4], row.options, row.training)).values()]
    grid = [HEADINGS, *lines]
    widths = [max(map(len, column)) for column in zip(*grid)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
        for line in (HEADINGS, rule, *lines)
    )


def cells(seeds: Sequence[Row]) -> tuple[str, ...]:
    """A line of the table, of the trainings that differ in nothing but their seed."""
    by_ess = sorted(seeds, key=lambda row: row.ess)
    median, worst = by_ess[len(by_ess) // 2], by_ess[0]
    return (
        median.flow,
        f"{median.theory}, {median.couplings}",
        median.shape,
        str(len(seeds)),
        number(median.train_seconds, 3),
        str(median.steps),
        str(median.n_parameters),
        ess(median),
        ess(worst),
        f"{max(row.largest_weight for row in seeds):.3g}",
        f"{max(row.pareto_k for row in seeds):.2f}".replace("-inf", "no tail"),
        with_error(median.log_z, median.log_z_error),
        "" if median.reference is None else f"{median.reference:.4f}",
        ", ".join(pulls(median)),
    )


def ess(row: Row) -> str:
    """With its error, where the weights can carry one."""
    return with_error(row.ess, row.ess_error) if row.ess_reliable else f"at most {number(row.ess, 4)}"


def pulls(row: Row) -> Iterable[str]:
    """Of what is known, in the order of the heading."""
    every = (row.log_z_pull, row.plaquette_pull, row.charge_squared_pull)
    return ("-" if one is None else f"{one:.1f}" for one in every)


def agreement(rows: Sequence[Row]) -> str:
    """chi^2 of all trusted estimates of each quantity against what is known of it."""
    lines = []
    for name, field in (("log Z", "log_z_pull"), ("P", "plaquette_pull"), ("Q^2", "charge_squared_pull")):
        known = [getattr(row, field) for row in rows if row.log_z_reliable and getattr(row, field) is not None]
        total = sum(one**2 for one in known)
        if known:
            lines.append(f"{name}: chi^2 = {total:.1f} of {len(known)} estimates, p = {chi2.sf(total, len(known)):.2g}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the folder that the run folders are in")
    parser.add_argument("csv", type=Path, help="where the figures of every seed go")
    given = parser.parse_args(arguments)
    try:
        rows = read_rows(given.runs)
        write_table(FigureData(Row._fields, rows), given.csv)
    except (InputError, EnsembleError, CheckpointError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(EXIT_INPUT)
    print(f"{table(rows)}\n\n{agreement(rows)}")


if __name__ == "__main__":
    main()
