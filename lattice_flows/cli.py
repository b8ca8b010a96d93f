"""The command `lattice-flows`: parses arguments, calls one workflow, prints."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    help="Exact lattice field theory sampling with normalizing flows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_PLAIN_WIDTH = 120  # of tables that go to a file or a pipe
_INTERRUPTED = 130
EXIT_FAILURE, EXIT_INPUT, EXIT_STOPPED = 1, 2, 75

Source = Annotated[Path, typer.Argument(metavar="CARD|DIR", help="A run card (TOML), or the folder of a run.")]
Out = Annotated[Path | None, typer.Option(help="The run's folder; output/NAME where absent.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="TABLE.KEY=VALUE", help="Replace a value of the card; ensemble.NAME.key for an ensemble's."
    ),
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="An ensemble file or a flow checkpoint.")]


def _console() -> "Console":
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_PLAIN_WIDTH)


@app.command()
def run(source: Source, out: Out = None, overrides: Overrides = None) -> None:
    """The whole job of a card: train, sample, analyse, report. Goes on with what is unfinished."""
    from lattice_flows.workflows.stages import run as run_card

    console = _console()
    _print_summary(run_card(source, out, overrides or [], console), console)


@app.command()
def train(source: Source, out: Out = None, overrides: Overrides = None) -> None:
    """Train the card's flow."""
    from lattice_flows.workflows.stages import train_stage

    train_stage(source, out, overrides or [], _console())


@app.command()
def sample(
    source: Source,
    out: Out = None,
    overrides: Overrides = None,
    ensemble: Annotated[list[str] | None, typer.Option(help="Only this ensemble; may be repeated.")] = None,
) -> None:
    """Generate the card's ensembles."""
    from lattice_flows.workflows.stages import sample_stage

    sample_stage(source, out, overrides or [], ensemble or [], _console())


@app.command()
def analyse(
    sources: Annotated[list[Path], typer.Argument(metavar="CARD|DIR|ENSEMBLE.h5...", help="A run, or ensemble files.")],
    out: Out = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the numbers here.")
    ] = None,
) -> None:
    """Estimates with errors: of a run, with its report, or of any ensemble files."""
    from lattice_flows.workflows.analyse import analyse_files, write_summary
    from lattice_flows.workflows.errors import InputError
    from lattice_flows.workflows.stages import analyse_stage

    console = _console()
    runs = [source for source in sources if source.is_dir() or source.suffix == ".toml"]
    if runs and len(sources) > 1:
        raise InputError(f"{runs[0]}: is a run; give one run, or ensemble files only")
    summary = analyse_stage(runs[0], out, console) if runs else analyse_files(sources)
    if json_file is not None:
        write_summary(summary, json_file)
    _print_summary(summary, console)


app.command("analyze", hidden=True)(analyse)


@app.command()
def info(file: File) -> None:
    """What a file is and how it was made."""
    from lattice_flows.workflows.inspect import describe

    for key, value in describe(file).items():
        print(f"{key:20} {value}")


@app.command()
def verify(file: File) -> None:
    """Whether a file is whole: every checksum is computed again."""
    from lattice_flows.workflows.inspect import verify as verify_file

    for line in verify_file(file):
        print(line)


@app.command()
def exact(
    theory: Annotated[str, typer.Argument(metavar="THEORY", help="A theory with closed forms: u1.")],
    beta: Annotated[float, typer.Option(help="The coupling.")],
    shape: Annotated[tuple[int, int], typer.Option(help="The lattice, two numbers.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Closed forms of a solvable theory."""
    import json

    from lattice_flows.workflows.exact import closed_forms

    values = closed_forms(theory, beta, shape)
    if as_json:
        print(json.dumps(values, indent=1))
        return
    for key, value in values.items():
        print(f"{key:30} {value if isinstance(value, dict) else format(value, '.12g')}")


def _print_summary(summary: dict[str, Any], console: "Console") -> None:
    from lattice_flows.workflows import format

    if summary["flow"]:
        console.print(format.flow_line(summary["flow"]), highlight=False)
    if summary["ensembles"]:
        console.print(format.observables_table(summary["ensembles"]))
        console.print(format.samplers_table(summary["ensembles"]))
    for text in format.warnings(summary):
        console.print(f"warning: {text}", markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point: 0 done, 2 the input is wrong, 75 stopped with everything saved, 1 anything else."""
    # Read when the OpenMP runtime is loaded. Threads that spin at barriers, its default, take ten times as long
    # on a machine that has other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        status = app(standalone_mode=False) or 0
    except Exception as error:
        status = _exit_status(error)
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except SystemExit as ended:  # typer's way of handing on a KeyboardInterrupt
        status = ended.code
    if status == _INTERRUPTED:
        print("lattice-flows: stopped at once; what was committed is safe, run again to go on", file=sys.stderr)
        status = EXIT_STOPPED
    sys.exit(status)


def _exit_status(error: Exception) -> int:
    """Print the error in one line where it is one of ours, and choose the status."""
    if hasattr(error, "format_message"):  # typer's own: a wrong option or argument
        print(f"lattice-flows: {error.format_message()}", file=sys.stderr)
        return EXIT_INPUT
    from lattice_flows.workflows.errors import InputError
    from lattice_flows.workflows.interrupt import Stopped

    user_errors, divergence = _error_types()
    if isinstance(error, Stopped):
        print(f"lattice-flows: stopped by {error}; everything is saved, run again to go on", file=sys.stderr)
        return EXIT_STOPPED
    if isinstance(error, (InputError, *user_errors)):
        print(f"lattice-flows: {error}", file=sys.stderr)
        return EXIT_INPUT
    if isinstance(error, OSError) and error.strerror:  # a full disk, say
        print(f"lattice-flows: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        return EXIT_FAILURE
    if isinstance(error, MemoryError):
        print("lattice-flows: out of memory; ask for fewer chains or a smaller lattice", file=sys.stderr)
        return EXIT_FAILURE
    if isinstance(error, divergence):
        print(f"lattice-flows: {error}", file=sys.stderr)
        return EXIT_FAILURE
    raise error


def _error_types() -> tuple[tuple[type[Exception], ...], type[Exception]]:
    from lattice_flows.ensembles import EnsembleError
    from lattice_flows.training import CheckpointError, TrainingDiverged

    return (EnsembleError, CheckpointError), TrainingDiverged


if __name__ == "__main__":
    main()
