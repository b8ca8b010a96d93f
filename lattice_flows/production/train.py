"""Training of the card's flow, and its evaluation on fresh samples."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from lattice_flows.card.build import build_flow, flow_header
from lattice_flows.card.card import Card, EnsembleTable
from lattice_flows.card.memory import require_memory_for_training
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.flows import Proposer, compile_flow
from lattice_flows.lock_files import sign
from lattice_flows.production.devices import network_threads, resolve_device, resumed_threads, use_threads
from lattice_flows.production.generate import generate_at
from lattice_flows.production.header import with_measurements_of
from lattice_flows.production.one_at_a_time import locked
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.production.training_data import TrainingData, check_training_data, training_data
from lattice_flows.regular_files import at_home
from lattice_flows.terminal.interrupt import Stopped, StopRequest
from lattice_flows.terminal.numbers import ess, with_error
from lattice_flows.terminal.progress import meter
from lattice_flows.training import (
    ALONE,
    CHECKPOINT_NAME,
    MAX_ROUND_TRIP,
    STOPPED,
    Checkpoint,
    CheckpointError,
    DataError,
    Progress,
    Ranks,
    TooManyRanks,
    check_same,
    has_ended,
    is_rescheduled,
    launched_ranks,
    read_checkpoint,
    settings_as_begun,
    train,
)
from lattice_flows.training.history import Record, is_trusted
from lattice_flows.training.warm_start import inherit


def train_flow(folder: RunFolder, card: Card, stop: StopRequest, console: Console, ranks: Ranks = ALONE) -> None:
    """Train, or continue training, to the end set by the card; then store fresh samples' weights beside the checkpoint.

    All ranks train, and the first one does everything else. Raises InputError if the card has no [flow],
    Stopped on a signal with everything saved, TrainingDiverged.
    """
    require_flow(card)
    checkpoint = folder.flow / CHECKPOINT_NAME
    with ExitStack() as stack:
        ranks.of_first(lambda: stack.enter_context(_one_trainer(folder.flow)))
        held = ranks.of_first(lambda: read_checkpoint(checkpoint) if checkpoint.exists() else None)
        if held is None or not is_at_end(folder, card, held):
            ranks.of_first(lambda: _reopen(folder, card, held, console))
            use_threads(resumed_threads(held.threads, str(checkpoint)) if held else network_threads())
            _train(folder, card, held, stop, console, ranks)
        if ranks.is_first:
            _evaluate(folder, card, stop, console)


def check_training(folder: RunFolder, card: Card) -> None:
    """Raise InputError, or CheckpointError, as `train_flow` would before its first step. Changes nothing."""
    require_flow(card)
    checkpoint, settings = folder.flow / CHECKPOINT_NAME, card.training
    check_flow_there(folder, card)
    held = read_checkpoint(checkpoint) if checkpoint.exists() else None
    if held is not None and is_at_end(folder, card, held):
        return
    if held is not None and held.reason:
        _check_unused(folder, card)
    require_memory_for_training(card, resolve_device(card.device), launched_ranks().size)
    if settings.data is not None:
        check_training_data(settings.data, card.theory)
    flow = _flow(card)
    if settings.init_from is not None and held is None:
        if not list(flow.parameters()):
            raise CheckpointError("training.init_from: this flow has no parameters to start from it")
        inherit(flow, at_home(settings.init_from), flow_header(card))


def is_at_end(folder: RunFolder, card: Card, held: Checkpoint) -> bool:
    """Whether the training of this checkpoint in the folder is at the end that the card asks for.

    Raises CheckpointError if it is the training of another card: of the settings only the ends may have grown.
    """
    header = flow_header(card) | {key: held.header[key] for key in ("data",) if key in held.header}
    settings = settings_as_begun(folder.flow, card.training)
    check_same(folder.flow / CHECKPOINT_NAME, held, header, settings, card.seed)
    return has_ended(held, settings)


def check_flow_there(folder: RunFolder, card: Card) -> None:
    """Raise InputError if the checkpoint is missing, of which samples or ensembles were made: another training is
    another flow."""
    if card.flow is None or (folder.flow / CHECKPOINT_NAME).exists():
        return
    made = [folder.evaluation] if Ensemble.exists(folder.evaluation) else []
    made += [path for table in card.ensembles if table.needs_flow for path in folder.files(table.name)]
    if made:
        raise InputError(
            f"{folder.flow / CHECKPOINT_NAME}: is missing, and {made[0]} was made with it; "
            "restore it, or delete or move what was made with it"
        )


def _check_unused(folder: RunFolder, card: Card) -> None:
    """Raise InputError if ensembles were made with the flow whose training is to go on."""
    for table in card.ensembles:
        if table.needs_flow and (files := folder.files(table.name)):
            raise InputError(
                f"{files[0]}: was made with the flow as it is, and a longer training makes another flow; "
                "delete or move the files of this ensemble, or choose another folder"
            )


def _reopen(folder: RunFolder, card: Card, held: Checkpoint | None, console: Console) -> None:
    """Prepare a training that had ended for its continuation: the fresh samples are of the flow that it is no more."""
    if held is None or not held.reason:
        return
    _check_unused(folder, card)
    folder.evaluation.unlink(missing_ok=True)
    shutil.rmtree(folder.evaluation.with_suffix(".segments"), ignore_errors=True)
    same = "" if is_rescheduled(held, card.training) else ", as if it had been longer from the start"
    other = "; its schedules stretch from here on, so its bits are not those of one that was longer from the start"
    console.print(f"[bold]train[/bold]  goes on from step {held.step}{same or other}", highlight=False, soft_wrap=True)


def require_flow(card: Card) -> None:
    """Raises InputError where the card has no [flow]."""
    if card.flow is None:
        raise InputError("the card has no [flow], so there is nothing to train")


def _train(
    folder: RunFolder, card: Card, held: Checkpoint | None, stop: StopRequest, console: Console, ranks: Ranks
) -> None:
    data = None if card.training.data is None else training_data(card.training.data, card.theory)
    if data is not None and ranks.of_first(lambda: data.identity) != data.identity:
        raise InputError(f"training.data = {card.training.data!r}: rank {ranks.rank} reads other data than rank 0")
    header = _header(card, data, held)
    flow = _flow(card)
    settings = card.training
    total = settings.max_steps if settings.max_seconds is None else settings.max_seconds
    assert total is not None
    unit = "steps" if settings.max_seconds is None else "s"
    with meter(console, "train", total, unit, "steps") as progress:

        def report(state: Progress) -> None:
            done = state.step if settings.max_seconds is None else min(state.seconds, total)
            seen = "" if state.record is None else f", {_seen(state.record)}"
            progress.update(done, f"step {state.step}, loss {state.loss:.3f}{seen}", state.step)

        try:
            result = train(
                flow,
                card.theory.action,
                settings,
                folder.flow,
                seed=card.seed,
                header=header,
                data=data and data.learn,
                held_out=data and data.held_out,
                report=report,
                should_stop=stop,
                ranks=ranks,
            )
        except (DataError, TooManyRanks) as error:
            raise InputError(str(error)) from None
        if result.reason == STOPPED:
            raise Stopped(stop.signal or "a signal to another process")
        if result.reason == "no_parameters":
            progress.line("nothing to train: the flow has no parameters")
            return
        progress.line(f"{result.step} steps in {result.train_seconds:.1f} s, ended by {result.reason}")


def _flow(card: Card) -> Proposer:
    """The card's flow before training, on its device."""
    flow = build_flow(card, resolve_device(card.device))
    if card.training.compile:
        try:
            compile_flow(flow)
        except ValueError as error:
            raise InputError(f"[training]: compile = true: {error}") from None
    return flow


def _seen(record: Record) -> str:
    """The last record as text. Its ESS is from fresh samples: a training batch would give one that is far too large."""
    doubt = "" if is_trusted(record) else " (unreliable)"
    shown = ess(record.ess, record.ess_error, record.n_samples or 0)
    error = record.round_trip or 0.0
    wrong = f", log w off by {error:.2g} (round trip)" if error > MAX_ROUND_TRIP else ""
    steps = "" if record.step_error is None else f", step error {record.step_error:.1g}"
    return f"ESS {shown}{doubt}{steps}, log Z >= {with_error(record.log_z_bound, record.log_z_bound_error)}{wrong}"


def _header(card: Card, data: TrainingData | None, held: Checkpoint | None) -> dict[str, Any]:
    """The checkpoint's entries on flow and data. Raises InputError if the data have changed in the meantime."""
    header = flow_header(card) if data is None else {**flow_header(card), "data": data.identity}
    if held is not None and data is not None and held.header.get("data") not in (None, data.identity):
        raise InputError(
            f"training.data = {card.training.data!r}: holds other configurations than when the training began; "
            "restore those, or choose another --out"
        )
    return header


def _evaluate(folder: RunFolder, card: Card, stop: StopRequest, console: Console) -> None:
    """Store fresh samples, with the observables that the card had when this was begun: they have no fields."""
    if Ensemble.exists(folder.evaluation):
        with Ensemble.open(folder.evaluation) as samples:
            card = with_measurements_of(samples.attributes, card)
    generate_at(folder.evaluation, card, evaluation_table(), folder.flow / CHECKPOINT_NAME, stop, console)


def evaluation_table() -> EnsembleTable:
    """The ensemble of fresh, weighted flow samples from which the flow's quality is estimated."""
    return EnsembleTable(
        name="flow/evaluation",  # no ensemble of a card can be called so
        sampler="flow_samples",
        n_chains=16,
        n_configs=1024,
        n_updates=1,
        n_thermalisation=0,
        start="cold",
        store_fields=False,
        compression="none",
        field_dtype="float64",
        options={"batch_size": 1024},
    )


@contextmanager
def _one_trainer(folder: Path) -> Iterator[None]:
    """Lock the folder, as two trainings in it would overwrite each other. Raises InputError if another holds the lock.

    Like that of an ensemble, the lock file names its holder, and is empty when there is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"{folder}: another process is training here; wait or choose another --out"
    with locked(folder / "training.lock", busy) as descriptor:
        sign(descriptor)
        yield
        os.ftruncate(descriptor, 0)
