"""The stages of a card's run. Finished stages are left alone, unfinished ones are continued."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from lattice_flows.card.card import Card
from lattice_flows.card.plugins import are_allowed, plugins
from lattice_flows.errors import InputError
from lattice_flows.estimates.analysis import analyse_files, analyse_run, flow_summary, selected
from lattice_flows.estimates.profiles import Profiles, profiles_of
from lattice_flows.estimates.selection import EVERYTHING, Selection
from lattice_flows.estimates.summary import write_summary
from lattice_flows.estimates.summary_types import Summary
from lattice_flows.outputs import check_report
from lattice_flows.production.consistency import check_flow
from lattice_flows.production.generate import check, generate
from lattice_flows.production.job_array import Task
from lattice_flows.production.run_folder import RunFolder, asked_for, claim, find_run, require_outside_of_runs
from lattice_flows.production.train import check_training, is_at_end, train_flow
from lattice_flows.report import terminal_tables, write_files_report, write_report
from lattice_flows.terminal.interrupt import stop_on_signals
from lattice_flows.terminal.streams import printable
from lattice_flows.training import CHECKPOINT_NAME, joined, launched_ranks, read_checkpoint


def run(
    source: str | Path,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    console: Console | None = None,
    allow_plugins: bool | None = None,
) -> Summary:
    """Train, generate, analyse and report according to the card at `source` (or the run folder).

    allow_plugins: whether the card may name code outside of the package, as MODULE:CLASS; None: as it is already.

    Raises InputError for wrong input, Stopped on a signal with everything saved.
    """
    source, out, console = Path(source), Path(out) if out else None, console or Console()
    with plugins(are_allowed() if allow_plugins is None else allow_plugins):
        return _run(source, out, overrides, console)


def _run(source: Path, out: Path | None, overrides: Sequence[str], console: Console) -> Summary:
    folder, card = asked_for(source, out, overrides)
    names = [table.name for table in card.ensembles]
    if card.flow is None and not names:
        raise InputError("the card has neither a [flow] nor an [[ensemble]], so there is nothing to do")
    if card.flow is not None:
        check_training(folder, card)
    trains = not _is_trained(folder, card)
    for k, name in enumerate(names):
        check(folder, card, name, before=names[:k], trains=trains)
    check_report(folder.report)
    claim(folder, card)
    with stop_on_signals() as stop:
        if card.flow is not None:
            train_flow(folder, card, stop, console)
        for table in card.ensembles:
            generate(folder, card, table.name, stop, console)
        stop.raise_if_set()
        summary = _report(folder, card, EVERYTHING, console, folder.report)
    return summary


def train_stage(source: Path, out: Path | None, overrides: Sequence[str], console: Console) -> RunFolder:
    """Only train the card's flow, and print its quality. Processes started by torchrun train together."""
    with joined(launched_ranks()) as ranks:
        console = console if ranks.is_first else Console(quiet=True)
        folder, card = ranks.of_first(lambda: _to_train(source, out, overrides))
        with stop_on_signals() as stop:
            train_flow(folder, card, stop, console, ranks)
        if ranks.is_first:
            _tell_flow(folder, card, console)
    return folder


def _to_train(source: Path, out: Path | None, overrides: Sequence[str]) -> tuple[RunFolder, Card]:
    """The claimed run of a card with a flow."""
    folder, card = asked_for(source, out, overrides)
    check_training(folder, card)
    return folder, claim(folder, card)


def _is_trained(folder: RunFolder, card: Card) -> bool:
    """Whether the flow is the one that the ensembles are to be made with."""
    checkpoint = folder.flow / CHECKPOINT_NAME
    return card.flow is not None and checkpoint.exists() and is_at_end(folder, card, read_checkpoint(checkpoint))


def _tell_flow(folder: RunFolder, card: Card, console: Console) -> None:
    flow = flow_summary(folder, card)
    for line in (terminal_tables.flow_line(flow), *(f"warning: {text}" for text in flow["warnings"])):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def sample_stage(
    source: Path,
    out: Path | None,
    overrides: Sequence[str],
    names: Sequence[str],
    console: Console,
    task: Task | None = None,
) -> RunFolder:
    """Only generate the card's ensembles, or those named, or one task's chains of them.

    Any flow that they need must have been trained.
    """
    folder, card = asked_for(source, out, overrides)
    for name in names:
        card.ensemble(name)
    wanted = [table.name for table in card.ensembles if not names or table.name in names]
    if not wanted:
        raise InputError("the card has no [[ensemble]], so there is nothing to sample")
    check_flow(folder, card)
    for k, name in enumerate(wanted):
        check(folder, card, name, task, before=wanted[:k] if task is None else ())
    claim(folder, card)
    with stop_on_signals() as stop:
        for name in wanted:
            generate(folder, card, name, stop, console, task)
    return folder


def analyse_stage(
    source: Path, out: Path | None, selection: Selection, console: Console, report: Path | None = None
) -> Summary:
    """Only analyse the selected part of what the run holds so far, and write its report to the folder `report`.

    Without one the report goes into the run's folder; but it is always of all that the run holds, so that of a
    selection is not written there.
    """
    folder, card = find_run(source, out)
    own = folder.report if selection == EVERYTHING else None
    if report is not None:
        require_outside_of_runs(report)
        check_report(report)
    with stop_on_signals():  # it takes less than the time between a signal and the kill
        return _report(folder, card, selection, console, report or own)


def analyse_files_stage(paths: Sequence[Path], report: Path | None, selection: Selection, console: Console) -> Summary:
    """Analyse the selected part of ensemble files, and write a report to the folder `report` if one is given."""
    if report is not None:
        require_outside_of_runs(report)
        check_report(report)
    with analyse_files(paths, selection) as analysis:
        if report is not None:
            write_summary(analysis.summary, report / "summary.json")
            write_files_report(report, analysis)
            _tell_report(report, console)
    return analysis.summary


def profile_stage(
    paths: Sequence[Path], series: str, n_bins: int, limits: tuple[float, float] | None, selection: Selection
) -> Profiles:
    """The free energy profiles along a stored series of the selected part of ensemble files."""
    with ExitStack() as stack:
        return profiles_of(selected(paths, selection, stack), series, n_bins, limits)


def _report(folder: RunFolder, card: Card, selection: Selection, console: Console, target: Path | None) -> Summary:
    with analyse_run(folder, card, selection) as analysis:
        if target is not None:
            write_summary(analysis.summary, target / "summary.json")
            write_report(folder, card, analysis, target)
            _tell_report(target, console)
    return analysis.summary


def _tell_report(report: Path, console: Console) -> None:
    console.print(
        f"[bold]report[/bold]  {escape(printable(str(report / 'index.html')))}", highlight=False, soft_wrap=True
    )
