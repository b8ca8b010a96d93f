"""What a folder already holds of an ensemble, and whether the card's run may go on with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lattice_flows.card.build import load_flow
from lattice_flows.card.card import Card, EnsembleTable
from lattice_flows.card.samplers import build_sampler
from lattice_flows.ensembles import Ensemble, EnsembleError, StorageError
from lattice_flows.errors import InputError
from lattice_flows.flows import Proposer
from lattice_flows.production.devices import resolve_device, resumed_threads
from lattice_flows.production.header import (
    as_begun,
    check_chains,
    check_same,
    new_measurements,
    threads_for,
    with_measurements_of,
)
from lattice_flows.production.header_check import check_header
from lattice_flows.production.job_array import Task, chains_for, check_task, is_complete_array
from lattice_flows.production.origin import Origin
from lattice_flows.production.pilot_chains import with_findings
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.samplers import Sampler
from lattice_flows.theories.measurement import Measurement
from lattice_flows.training import has_ended, load_flow_weights, read_checkpoint, settings_as_begun


def places(folder: RunFolder, card: Card, name: str, task: Task | None) -> list[tuple[Path, Task | None]]:
    """The file to bring to its n_configs; or those of a job array that hold the whole ensemble, each with its task.

    Raises InputError as `check_task` does.
    """
    table = card.ensemble(name)
    if task is None and not folder.is_begun(name) and is_complete_array(folder, table):
        indices = folder.tasks(name)
        return [(folder.task(name, index), Task(index, len(indices))) for index in indices]
    check_task(folder, table, task)
    return [(folder.ensemble(name) if task is None else folder.task(name, task.index), task)]


def table_of(folder: RunFolder, card: Card, name: str) -> EnsembleTable:
    """The ensemble's table, with what an older version has begun, in one file or as tasks, as it was.

    Raises InputError if there are files and none can be read.
    """
    table, unread = card.ensemble(name), None
    for path in folder.files(name):
        try:
            with Ensemble.open(path) as held:
                return as_begun(table, held.attributes)
        except EnsembleError as error:  # of several tasks one is enough, for all were begun alike
            unread = unread or error
    if isinstance(unread, StorageError):
        raise unread
    if unread is not None:  # which version has begun it, and what it meant by the card, cannot be known
        raise InputError(str(unread))
    return table


def check_held(
    path: Path, ensemble: Ensemble, card: Card, table: EnsembleTable, checkpoint: Path, task: Task | None
) -> None:
    """Raise InputError if the file holds other chains than the card, or the task, asks for."""
    check_header(ensemble)
    check_chains(path, ensemble.attributes, table, task)
    check_same(path, ensemble, card, table, flow_checksum(table, checkpoint))


def flow_checksum(table: EnsembleTable, checkpoint: Path) -> str | None:
    """The checksum of the flow that the ensemble is made with, "" if it takes none; None if there is no checkpoint."""
    if not table.needs_flow:
        return ""
    return load_flow_weights(checkpoint).sha256 if checkpoint.exists() else None


def to_measure(path: Path, ensemble: Ensemble, card: Card) -> list[Measurement]:
    """The observables that the card asks for by name and the file lacks.

    Raises InputError if they cannot be measured on its fields.
    """
    new = new_measurements(ensemble.attributes, card)
    if not new:
        return []
    told = f"{path}: holds chains without {', '.join(one.observable.name for one in new)}, which the card asks for"
    if not ensemble.finished:
        raise InputError(f"{told}; finish it first without, then they are measured on its fields")
    if not ensemble.has_fields:
        raise InputError(f"{told}, and no fields to measure them on; leave them out, or give the ensemble another name")
    return new


def resumed(
    path: Path, attributes: Mapping[str, Any], card: Card, table: EnsembleTable, checkpoint: Path, task: Task | None
) -> tuple[Card, Sampler, int]:
    """The card with the observables of the file, the sampler as it was tuned, and the number of threads to use.

    Raises InputError if the file cannot be continued here.
    """
    threads = threads_for(table, chains_for(table, task))
    if table.needs_flow:  # only networks round differently on another number of threads
        threads = resumed_threads(Origin(attributes).threads, str(path))
    flow, _ = flow_for(card, table, checkpoint)
    sampler = build_sampler(table.sampler, table.options, card.theory.action, flow, table.name)
    sampler = with_findings(sampler, path, Origin(attributes).sampler)
    return with_measurements_of(attributes, card), sampler, threads


def flow_for(card: Card, table: EnsembleTable, checkpoint: Path) -> tuple[Proposer | None, str]:
    """The trained flow and its checksum, or None and "" for a sampler without a flow.

    Raises InputError if the sampler takes a flow and none is trained to the end that the card asks for.
    """
    if not table.needs_flow:
        return None, ""
    if not checkpoint.exists():
        raise InputError(f"{checkpoint}: the flow of the ensemble {table.name!r} is not trained; train it first")
    held = read_checkpoint(checkpoint)
    if not has_ended(held, settings_as_begun(checkpoint.parent, card.training)):
        raise InputError(
            f"{checkpoint}: the flow of the ensemble {table.name!r} is at step {held.step} of its training; "
            "finish that first with `lattice-flows train`"
        )
    return load_flow(card, checkpoint, resolve_device(card.device))
