"""Train the card's flow, then measure it on fresh samples."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from lattice_flows.training import CHECKPOINT_NAME, STOPPED, Progress, read_checkpoint, train
from lattice_flows.workflows.assemble import build_flow, flow_header
from lattice_flows.workflows.card import Card, EnsembleTable
from lattice_flows.workflows.compute import network_threads, resolve_device, resumed_threads, use_threads
from lattice_flows.workflows.errors import InputError
from lattice_flows.workflows.folder import RunFolder
from lattice_flows.workflows.generate import generate_at
from lattice_flows.workflows.interrupt import Stopped, StopRequest
from lattice_flows.workflows.progress import meter


def train_flow(folder: RunFolder, card: Card, stop: StopRequest, console: Console) -> None:
    """Train, or go on training, until the card's end; then store fresh samples' weights beside the checkpoint.

    Raises InputError where the card has no [flow], Stopped on a signal with everything saved, TrainingDiverged.
    """
    if card.flow is None:
        raise InputError("the card has no [flow], so there is nothing to train")
    checkpoint = folder.flow / CHECKPOINT_NAME
    with _one_trainer(folder.flow):
        held = read_checkpoint(checkpoint) if checkpoint.exists() else None
        if held is None or not held.reason:
            use_threads(resumed_threads(held.threads, str(checkpoint)) if held else network_threads())
            _train(folder, card, stop, console)
        generate_at(folder.evaluation, card, evaluation_table(), checkpoint, stop, console)


def _train(folder: RunFolder, card: Card, stop: StopRequest, console: Console) -> None:
    flow = build_flow(card, resolve_device(card.device))
    settings = card.training
    total = settings.max_steps if settings.max_seconds is None else settings.max_seconds
    assert total is not None
    with meter(console, "train", total, "steps" if settings.max_seconds is None else "s") as progress:

        def report(state: Progress) -> None:
            done = state.step if settings.max_seconds is None else min(state.seconds, total)
            record = state.record
            measured = f", ESS {record.ess:.3f}, log Z >= {record.log_z_bound:.3f}" if record else ""
            progress.update(done, f"step {state.step}, loss {state.loss:.3f}{measured}")

        header = flow_header(card)
        result = train(
            flow,
            card.theory.action,
            settings,
            folder.flow,
            seed=card.seed,
            header=header,
            report=report,
            should_stop=stop,
        )
        if result.reason == STOPPED:
            raise Stopped(stop.signal)
        progress.line(f"{result.step} steps in {result.train_seconds:.1f} s, ended by {result.reason}")


def evaluation_table() -> EnsembleTable:
    """The ensemble of fresh, weighted flow samples that tells how good the flow is."""
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
    """Hold the folder: two trainings in it would write over each other. Raises InputError where another does.

    The lock says who holds it, as that of an ensemble does, and is empty when nobody does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "training.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{folder}: another process is training here; wait or choose another --out") from None
        file.truncate(0)
        with suppress(OSError):  # a full disk: the lock holds all the same
            os.write(file.fileno(), json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode())
        yield
        file.truncate(0)
