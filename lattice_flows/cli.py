"""The command `lattice-flows`: it parses arguments, calls one workflow and prints the result."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lattice_flows.exit_status import (
    EXIT_FAILURE,
    EXIT_INPUT,
    EXIT_STOPPED,
    STOPPED_AT_ONCE,
    check_surroundings,
    end,
    exit_status,
    foreign_error,
    is_one_of_several,
    leave_outcome,
)
from lattice_flows.regular_files import arguments_at_home
from lattice_flows.terminal.streams import flush, open_streams, print_nowhere, printable, tell

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.console import Console

    from lattice_flows.estimates.summary_types import Summary

app = typer.Typer(
    help="Exact lattice field theory sampling with normalizing flows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_PLAIN_WIDTH = 120  # of tables that go to a file or a pipe
_INTERRUPTED = 130

OptionalSource = Annotated[
    Path | None, typer.Argument(metavar="CARD|DIR", help="A run card (TOML), or the folder of a run.")
]
Source = Annotated[Path, typer.Argument(metavar="CARD|DIR", help="A run card (TOML), or the folder of a run.")]
Out = Annotated[Path | None, typer.Option(help="The run's folder; default: output/NAME.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="TABLE.KEY=VALUE", help="Replace a value of the card; ensemble.NAME.key for an ensemble's."
    ),
]
Plugins = Annotated[
    bool, typer.Option("--allow-plugins", help="The card may name code outside of the package, as MODULE:CLASS.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="An ensemble file or a flow checkpoint.")]


def _console() -> "Console":
    from rich.console import Console

    class Lasting(Console):
        """A console that lets work continue when nobody reads its output any more (`| head`)."""

        def on_broken_pipe(self) -> None:
            print_nowhere()

    console = Lasting()
    return console if console.is_terminal else Lasting(width=_PLAIN_WIDTH)


@app.callback()
def _alone(context: typer.Context) -> None:
    if is_one_of_several() and context.invoked_subcommand != "train":
        from lattice_flows.errors import InputError

        raise InputError(f"{context.invoked_subcommand}: runs as one process; with torchrun use only `train`")


@app.command()
def run(
    source: OptionalSource = None,
    out: Out = None,
    overrides: Overrides = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="ENSEMBLE.h5",
            help="Regenerate this ensemble, by default in output/remade/NAME, and compare.",
        ),
    ] = None,
    allow_plugins: Plugins = False,
) -> None:
    """Run a card: train, sample, analyse, report. Continues what is unfinished."""
    from lattice_flows.errors import InputError

    console = _console()
    if source is not None and file is None:
        from lattice_flows.stages import run as run_card

        with _permission(allow_plugins):
            _require_no_jobs(source, out)
            _print_summary(run_card(source, out, overrides or [], console), console)
        return
    if file is not None and allow_plugins:
        raise InputError("--allow-plugins: is for cards; a file that is made again runs no code that it names")
    if source is not None or file is None:
        raise InputError("run: give a run card, the folder of a run, or --from with an ensemble file")
    if overrides:
        raise InputError("run --from: regenerates the ensemble as it was, so --set cannot be given")
    from lattice_flows.production.remake import remake

    if not remake(file, out, console):
        raise typer.Exit(EXIT_FAILURE)


def _permission(allow_plugins: bool) -> "AbstractContextManager[None]":
    """The permission for cards that are read meanwhile to name code outside of the package."""
    from lattice_flows.card.plugins import plugins

    return plugins(allow_plugins)


def _require_no_jobs(source: Path, out: Path | None) -> None:
    """Raise InputError if the run has jobs at work, unless this process is one of them."""
    if not os.environ.get("LATTICE_FLOWS_OUTCOME") and not is_one_of_several():
        from lattice_flows.cluster import require_no_jobs

        require_no_jobs(source, out)


@app.command()
def train(source: Source, out: Out = None, overrides: Overrides = None, allow_plugins: Plugins = False) -> None:
    """Train the card's flow."""
    from lattice_flows.stages import train_stage

    with _permission(allow_plugins):
        _require_no_jobs(source, out)
        train_stage(source, out, overrides or [], _console())


@app.command()
def sample(
    source: Source,
    out: Out = None,
    overrides: Overrides = None,
    ensemble: Annotated[list[str] | None, typer.Option(help="Only this ensemble; may be repeated.")] = None,
    task: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only the chains of task I = 0 ... N - 1 of a job array.")
    ] = None,
    allow_plugins: Plugins = False,
) -> None:
    """Generate the card's ensembles."""
    from lattice_flows.production.job_array import parse_task
    from lattice_flows.stages import sample_stage

    share = None if task is None else parse_task(task)
    with _permission(allow_plugins):
        _require_no_jobs(source, out)
        sample_stage(source, out, overrides or [], ensemble or [], _console(), share)


@app.command()
def analyse(
    sources: Annotated[list[Path], typer.Argument(metavar="CARD|DIR|ENSEMBLE.h5...", help="A run, or ensemble files.")],
    out: Out = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the numbers here.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the report here; a run has one of all it holds.")
    ] = None,
    thermalisation: Annotated[
        str, typer.Option(metavar="N|auto", help="Drop the first N configurations of every chain; auto: determine N.")
    ] = "0",
    every: Annotated[int, typer.Option(metavar="N", help="Only configurations whose number is a multiple of N.")] = 1,
    reweight: Annotated[
        list[str] | None, typer.Option(metavar="COUPLING=X", help="Averages at another coupling; may be repeated.")
    ] = None,
    derive: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME = EXPR'", help="A function of averages, e.g. -log(wilson_loop_1x2 / plaquette)."),
    ] = None,
    allow_plugins: Plugins = False,
) -> None:
    """Estimate averages with errors: from a run, with its report, or from any ensemble files."""
    from lattice_flows.errors import InputError
    from lattice_flows.estimates.selection import Selection, parse_couplings, parse_thermalisation
    from lattice_flows.estimates.summary import write_summary
    from lattice_flows.outputs import SUMMARY, check_target
    from lattice_flows.production.run_folder import require_outside_of_runs
    from lattice_flows.stages import analyse_files_stage, analyse_stage

    console = _console()
    if json_file is not None:
        check_target(json_file, SUMMARY)
        require_outside_of_runs(json_file)
    runs = [source for source in sources if source.is_dir() or source.suffix == ".toml"]
    if runs and len(sources) > 1:
        raise InputError(f"{runs[0]}: is a run; give one run, or ensemble files only")
    if allow_plugins and not runs:
        raise InputError("--allow-plugins: is for the card of a run; files are read without the code that they name")
    if out is not None and not runs:
        raise InputError(f"--out {out}: names the folder of a run; for ensemble files give --report")
    selection = Selection(
        parse_thermalisation(thermalisation), every, parse_couplings(reweight or []), tuple(derive or ())
    )
    if runs:
        with _permission(allow_plugins):
            summary = analyse_stage(runs[0], out, selection, console, report)
    else:
        summary = analyse_files_stage(sources, report, selection, console)
    if json_file is not None:
        write_summary(summary, json_file)
    _print_summary(summary, console)


app.command("analyze", hidden=True)(analyse)


@app.command()
def profile(
    files: Annotated[list[Path], typer.Argument(metavar="ENSEMBLE.h5...", help="Files of one theory.")],
    series: Annotated[str, typer.Option(metavar="NAME", help="A stored series, the variable s.")],
    bins: Annotated[int, typer.Option(metavar="N", help="Bins of equal width.")] = 40,
    limits: Annotated[
        tuple[float, float] | None, typer.Option("--range", metavar="A B", help="Of s; default: all that was visited.")
    ] = None,
    thermalisation: Annotated[
        str, typer.Option(metavar="N|auto", help="Drop the first N configurations of every chain; auto: determine N.")
    ] = "0",
    every: Annotated[int, typer.Option(metavar="N", help="Only configurations whose number is a multiple of N.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the numbers here.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Also draw them here.")] = None,
) -> None:
    """Print free energy profiles, F(s) = -log p(s), with errors."""
    from lattice_flows.estimates.selection import Selection, parse_thermalisation
    from lattice_flows.report.profiles import check_targets, profiles_table, write_profiles
    from lattice_flows.stages import profile_stage

    console = _console()
    check_targets(json_file, svg)
    found = profile_stage(files, series, bins, limits, Selection(parse_thermalisation(thermalisation), every))
    write_profiles(found, json_file, svg)
    console.print(profiles_table(found))
    for text in found.warnings:
        console.print(f"warning: {printable(text)}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def measure(
    file: Annotated[Path, typer.Argument(metavar="ENSEMBLE.h5", help="A finished ensemble with stored fields.")],
    observables: Annotated[
        list[str], typer.Argument(metavar="'NAME [KEY=VALUE]...'", help="Such as 'wilson_loop r=2 t=3 flow_time=0.5'.")
    ],
) -> None:
    """Measure further observables on the stored fields of an ensemble."""
    from lattice_flows.production.measure import measure as measure_file
    from lattice_flows.production.measure import requested
    from lattice_flows.terminal.interrupt import stop_on_signals

    with stop_on_signals() as stop:
        measure_file(file, requested(file, observables), stop, _console())


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="ENSEMBLE.h5", help="An ensemble, also an unfinished one.")],
    to: Annotated[Literal["netcdf", "pyerrors", "arviz", "npy"], typer.Option(help="The format.")],
    out: Annotated[Path | None, typer.Option(metavar="TARGET", help="Default: beside the ensemble.")] = None,
) -> None:
    """Export an ensemble for another program."""
    from lattice_flows.interchange.export import export as export_file
    from lattice_flows.terminal.interrupt import stop_on_signals

    with stop_on_signals() as stop:
        print(printable(str(export_file(file, to, out, stop))))


@app.command("import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="NAME.npy, NAME.npz:ARRAY, NAME.h5:/DATASET; text with --series."),
    ],
    out: Annotated[Path, typer.Option(metavar="NAME.h5", help="The new ensemble file.")],
    coupling: Annotated[
        list[str] | None, typer.Option(metavar="COUPLING=X", help="Such as beta=6.0; may be repeated.")
    ] = None,
    theory: Annotated[str, typer.Option(metavar="THEORY", help="The theory that was sampled.")] = "u1",
    axes: Annotated[
        str,
        typer.Option(
            metavar="config,chain,...", help="Order of the axes of an array; without config each file is one of them."
        ),
    ] = "",
    shorten: Annotated[
        bool, typer.Option("--shorten", help="Take only as many configurations as the shortest chain has.")
    ] = False,
    series: Annotated[
        str, typer.Option(metavar="NAME,NAME,...", help="The files are text, a column for each of these; _ for none.")
    ] = "",
    shape: Annotated[
        str, typer.Option(metavar="L0,L1,...", help="Of the lattice, with --series; else the arrays tell it.")
    ] = "",
) -> None:
    """Import configurations or series of another code into an ensemble file."""
    from lattice_flows.estimates.selection import parse_couplings
    from lattice_flows.interchange.import_fields import import_fields
    from lattice_flows.interchange.import_series import import_series, parse_series
    from lattice_flows.terminal.interrupt import stop_on_signals

    table, console = {"name": theory, **parse_couplings(coupling or [])}, _console()
    names, lattice = parse_series(series, shape, axes)
    with stop_on_signals() as stop:
        if names:
            import_series(files, table, lattice, names, out, console, stop, shorten)
        else:
            import_fields(files, table, out, console, stop, axes, shorten)


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")],
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Time between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and exit.")] = False,
    allow_plugins: Plugins = False,
) -> None:
    """Show the live state of a run, read from its files."""
    from lattice_flows.monitor.watch import watch as watch_run

    with _permission(allow_plugins):
        watch_run(folder, _console(), interval, once)


@app.command()
def submit(
    source: Source,
    cluster: Annotated[
        Path | None,
        typer.Option(metavar="PROFILE", help="A cluster profile, runs/cluster/*.toml; default: that of the run."),
    ] = None,
    out: Out = None,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only write and print the job scripts.")] = False,
    allow_plugins: Plugins = False,
) -> None:
    """Submit batch jobs for the unfinished part of a run: train, sample as job arrays, analyse."""
    from lattice_flows.cluster import submit as submit_run

    with _permission(allow_plugins):
        submit_run(source, cluster, out, overrides or [], dry_run, _console())


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a submitted run.")],
    allow_plugins: Plugins = False,
) -> None:
    """Show the stages of a submitted run, from its files and the scheduler. Exit status 1: one has failed."""
    from lattice_flows.cluster import status as status_of_run

    with _permission(allow_plugins):
        well = status_of_run(folder, _console())
    if not well:
        raise typer.Exit(EXIT_FAILURE)


@app.command()
def cancel(folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a submitted run.")]) -> None:
    """Cancel the jobs of a submitted run; what they saved is kept."""
    from lattice_flows.cluster import cancel as cancel_run

    cancel_run(folder, _console())


@app.command()
def info(file: File) -> None:
    """Show the contents and origin of a file."""
    from lattice_flows.monitor.info import describe

    for key, value in describe(file).items():
        print(printable(f"{key:20} {value}"))


@app.command()
def verify(file: File) -> None:
    """Verify that a file is intact: every checksum is recomputed."""
    from lattice_flows.monitor.info import verify as verify_file

    for line in verify_file(file):
        print(printable(line))


@app.command()
def exact(
    theory: Annotated[str, typer.Argument(metavar="THEORY", help="A theory with closed forms, such as u1.")],
    beta: Annotated[float | None, typer.Option(help="The coupling beta, where there is one.")] = None,
    shape: Annotated[
        int | None, typer.Option(metavar="L0 L1 ...", help="The sides of the lattice; absent where there is none.")
    ] = None,
    others: Annotated[list[int] | None, typer.Argument(hidden=True, metavar="L1")] = None,  # sides after the first
    coupling: Annotated[
        list[str] | None, typer.Option(metavar="COUPLING=X", help="Any other coupling; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the closed forms of a solvable theory."""
    import json

    from lattice_flows.card.closed_forms import closed_forms
    from lattice_flows.estimates.selection import parse_couplings

    couplings = {**({} if beta is None else {"beta": beta}), **parse_couplings(coupling or [])}
    lattice = (() if shape is None else (shape,)) + tuple(others or ())
    values = closed_forms(theory, couplings, lattice)
    if as_json:
        print(json.dumps(values, indent=1))
        return
    distribution = values.pop("charge_distribution", {})  # of 2D U(1)
    for key, value in {**values, **{f"P(Q = {q})": p for q, p in distribution.items()}}.items():
        print(f"{key:30} {value:.12g}")


def _print_summary(summary: "Summary", console: "Console") -> None:
    from lattice_flows.report import terminal_tables

    if summary["flow"]:
        console.print(terminal_tables.flow_line(summary["flow"]), highlight=False)
    if summary["ensembles"]:
        console.print(terminal_tables.observables_table(summary["ensembles"]))
        console.print(terminal_tables.samplers_table(summary["ensembles"]))
        if winners := terminal_tables.winners_table(summary["ensembles"]):
            console.print(winners)
    lines = *terminal_tables.weight_lines(summary), *terminal_tables.merged(summary)
    for text in (*lines, *terminal_tables.selections(summary)):
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    for text in terminal_tables.warnings(summary):
        console.print(f"warning: {printable(text)}", markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point. Exit status: 0 done, 2 wrong input, 75 stopped with everything saved, 1 anything else."""
    # Read when the OpenMP runtime is loaded. Threads that spin at barriers, its default, take ten times as long
    # on a machine that has other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    open_streams()
    message, lost = "", False
    try:
        check_surroundings()
        status = app(arguments_at_home(sys.argv[1:]), standalone_mode=False) or 0
    except Exception as error:
        status, message = exit_status(error)
        lost = type(error).__name__ == "RankLost"
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except (
        SystemExit
    ) as ended:  # typer's way of handing on a KeyboardInterrupt, a closed pipe, or another package's sys.exit()
        status, message = ended.code, foreign_error(ended)
        status = EXIT_INPUT if message else status
    failure = flush()
    if isinstance(failure, BrokenPipeError):
        status = 0 if status == EXIT_FAILURE else status
    elif failure is not None and status == 0:
        status, message = EXIT_FAILURE, f"output: {failure.strerror}"
    if status == _INTERRUPTED:
        status, message = EXIT_STOPPED, STOPPED_AT_ONCE
    if message:
        tell(f"lattice-flows: {message}")
    leave_outcome(status, message, lost)
    end(status)


if __name__ == "__main__":
    main()
