"""Generate the ensembles of a card: start or resume, thermalise, produce, measure, store."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from lattice_flows.card.budget import is_complete
from lattice_flows.card.build import field_spec
from lattice_flows.card.card import Card, EnsembleTable
from lattice_flows.card.memory import require_memory_for_chains
from lattice_flows.card.samplers import build_sampler
from lattice_flows.catalogue import foreign_place
from lattice_flows.ensembles import Ensemble, EnsembleError, LockedError
from lattice_flows.errors import InputError
from lattice_flows.flows import Proposer
from lattice_flows.kernels.random import make_streams
from lattice_flows.production.beginning import check_first_step, check_parts
from lattice_flows.production.begun import check_held, flow_for, places, resumed, table_of, to_measure
from lattice_flows.production.devices import resolve_device, use_threads
from lattice_flows.production.header import header_of, identity_of, left_out, of_two_programs, threads_for
from lattice_flows.production.job_array import Task, chains_for
from lattice_flows.production.measure import measure
from lattice_flows.production.pilot_chains import tuned
from lattice_flows.production.produce import STEADY, Pace, Production
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.production.start import check_start_file, start_configurations
from lattice_flows.regular_files import at_home, real
from lattice_flows.samplers import Sampler
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.training import CHECKPOINT_NAME


def generate(
    folder: RunFolder,
    card: Card,
    name: str,
    stop: StopRequest,
    console: Console,
    task: Task | None = None,
    pace: Pace = STEADY,
) -> None:
    """Generate one ensemble of the card, or the chains of one of its tasks, up to its end; finished ones are kept.

    For samplers without a network, the chains of the tasks equal those of the whole ensemble, bit for bit, for any
    number of tasks. With a network they are different chains, equally independent of each other.

    Raises InputError if the required flow is not trained, if the ensemble cannot be split into so many tasks, or if
    it was begun the other way or with another number of tasks; Stopped on a signal with everything saved.
    """
    table = table_of(folder, card, name)
    for path, part in places(folder, card, name, task):
        generate_at(path, card, table, folder.flow / CHECKPOINT_NAME, stop, console, part, pace)


def check(
    folder: RunFolder, card: Card, name: str, task: Task | None = None, before: Sequence[str] = (), trains: bool = False
) -> None:
    """Raise InputError as `generate` would, and make one chain to see that it can begin. Changes nothing.

    before: the ensembles that the same call makes before this one, of which it may be a continuation.
    trains: the same call trains the flow first, so there may be none yet.
    """
    table, checkpoint = table_of(folder, card, name), folder.flow / CHECKPOINT_NAME
    begun = [(path, part) for path, part in places(folder, card, name, task) if Ensemble.exists(path)]
    for path, part in begun:
        _check_begun(path, card, table, checkpoint, part)
    if begun:
        return
    require_memory_for_chains(card, table, len(chains_for(table, task)))
    with _told(table):
        _check_start(folder, card, table, before)
    if table.needs_flow and trains:
        resolve_device(card.device)
        return
    flow, _ = flow_for(card, table, checkpoint)
    sampler = build_sampler(table.sampler, table.options, card.theory.action, flow, table.name)
    with _told(table):
        _check_beginning(card, table, sampler)
        if sampler.tuned and not table.needs_flow:  # the others are looked at when they are begun
            check_first_step(card, table, sampler)


def _check_begun(path: Path, card: Card, table: EnsembleTable, checkpoint: Path, task: Task | None) -> None:
    """Raise InputError if the file cannot be brought to the card's configurations and observables."""
    with Ensemble.open(path) as ensemble:
        check_held(path, ensemble, card, table, checkpoint, task)
        to_measure(path, ensemble, card)
        attributes, finished = ensemble.attributes, is_complete(ensemble, table)
    if not finished:
        require_memory_for_chains(card, table, len(chains_for(table, task)))
        resumed(path, attributes, card, table, checkpoint, task)


def _check_start(folder: RunFolder, card: Card, table: EnsembleTable, before: Sequence[str]) -> None:
    """Raise InputError if there is no file to start from, and none will be made before."""
    told = f"start = {table.start!r}"
    own = {real(folder.ensemble(other.name)): other for other in card.ensembles}
    source = own.get(real(at_home(table.start)))
    if source is None or (source.name not in before and folder.is_begun(source.name)):
        check_start_file(card.theory, table.start)
    elif source.name not in before:
        raise InputError(f"{told}: the ensemble {source.name!r} is not made before this one")
    elif not source.store_fields:
        raise InputError(f"{told}: the ensemble {source.name!r} stores no fields; make it with store_fields = true")


def _check_beginning(card: Card, table: EnsembleTable, sampler: Sampler) -> None:
    """Raise ValueError for what the sampler cannot do on this lattice: it says so when a chain begins.

    And for code of somebody else that is not what a run needs.
    """
    check_parts(card, table, sampler)
    event = card.theory.action.event_shape(card.theory.shape)
    sampler.init(card.theory.action.cold(event)[None], make_streams(card.seed, f"check of {table.name}", range(1)))


@contextmanager
def _told(table: EnsembleTable) -> Iterator[None]:
    """Let errors that are the user's to mend name the ensemble."""
    try:
        yield
    except EnsembleError:
        raise
    except ValueError as error:
        place = foreign_place(error.__traceback__)
        told = " ".join(str(error).splitlines()) + (f" ({place})" if place else "")
        raise InputError(f"[[ensemble]] {table.name}: {told}") from None


def generate_at(
    path: Path,
    card: Card,
    table: EnsembleTable,
    checkpoint: Path,
    stop: StopRequest,
    console: Console,
    task: Task | None = None,
    pace: Pace = STEADY,
) -> None:
    """Generate the ensemble of this table, or the chains of one of its tasks, up to its end in the file `path`."""
    if Ensemble.exists(path):
        _go_on(path, card, table, checkpoint, stop, console, task, pace)
        return
    chains = chains_for(table, task)
    use_threads(threads_for(table, chains))
    flow, checksum = flow_for(card, table, checkpoint)
    sampler = build_sampler(table.sampler, table.options, card.theory.action, flow, table.name)
    with _told(table):
        check_parts(card, table, sampler)
        sampler = tuned(card, table, identity_of(card, table), sampler, flow, stop, console)
        check_first_step(card, table, sampler)
        state = _begun(card, table, sampler, flow, chains)
    header = header_of(card, table, sampler, checksum, task)
    with Ensemble.create(
        path,
        header=header,
        chains=chains,
        field=field_spec(card.theory, table.field_dtype),
        store_fields=table.store_fields,
        compression=table.compression,
    ) as writer:
        Production(card, table, sampler, writer, pace, state, 0).run(stop, console)


def _go_on(
    path: Path,
    card: Card,
    table: EnsembleTable,
    checkpoint: Path,
    stop: StopRequest,
    console: Console,
    task: Task | None,
    pace: Pace,
) -> None:
    """Measure what the file lacks, and generate what is missing."""
    with Ensemble.open(path) as ensemble:
        check_held(path, ensemble, card, table, checkpoint, task)
        new, finished = to_measure(path, ensemble, card), is_complete(ensemble, table)
    if new:
        measure(path, new, stop, console)
    if finished:
        _tidy(path)
        return
    with Ensemble.open(path) as ensemble:
        attributes = ensemble.attributes
    as_held, sampler, threads = resumed(path, attributes, card, table, checkpoint, task)
    for text in filter(None, [left_out(card, as_held), *of_two_programs(card, table, attributes)]):
        console.print(f"[bold]{table.name}[/bold]  {text}", highlight=False, soft_wrap=True)
    use_threads(threads)
    with Ensemble.resume(path) as writer:
        Production.resume(as_held, table, sampler, writer, pace).run(stop, console)


def _tidy(path: Path) -> None:
    """Delete the segments that a kill at the end of a join has left beside the finished file, which contains them."""
    if path.with_suffix(".segments").exists() or path.with_suffix(".lock").exists():
        with suppress(LockedError):  # somebody is at work on it, and will
            Ensemble.resume(path).close()


def _begun(card: Card, table: EnsembleTable, sampler: Sampler, flow: Proposer | None, chains: range) -> Any:
    """The initial state of these chains of the ensemble."""
    streams = make_streams(card.seed, identity_of(card, table), chains)
    x, streams = start_configurations(card.theory, table.start, streams, flow, chains.start)
    return sampler.init(x, streams)
