"""Bounds before memory: what a card's training and its ensembles need at least, against what there is.

Everything is counted from the card alone, before anything is made. What is not known, such as the tables of another
package's flow, counts for nothing: a card that passes may still run out of memory, but one that is refused would have.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from lattice_flows.card.card import Card, EnsembleTable, FlowTable, TheoryTable
from lattice_flows.card.samplers import planned_sampler
from lattice_flows.errors import InputError
from lattice_flows.flows.size import FlowSize, FlowTooLarge, size_of
from lattice_flows.memory import free_memory, in_words
from lattice_flows.training import TrainingSettings

_COPIES = 5  # of the weights in training: themselves, their gradient, two moments of Adam, the running average
_SAVED = 4  # of them in a checkpoint, which is made in memory
_NUMBERS_OF_AN_OUTPUT = 4  # kept for a gradient: a generous guess for each number of a sample and output of a layer
_CONFIGURATIONS = 2  # of each chain beside the sampler's own: those that are measured, and those that are stored


def require_memory_for_training(card: Card, device: torch.device, n_processes: int = 1) -> None:
    """Raise InputError if the card's flow, or its training by so many processes on this device, needs more memory
    than there is."""
    assert card.flow is not None
    free, settings = free_memory(), card.training
    size = _size(card.flow, card.theory, free // (_COPIES + _SAVED))
    on_device = free if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]
    copies = _COPIES + (_SAVED if device.type == "cpu" else 0)
    told = f"[flow] {card.flow.name}: {_sizes(card.flow.options)}{_on(card.theory)}"
    _require(copies * size.n_bytes, on_device, f"{told}: the training of {size.n_parameters} weights", "them")
    if size.n_parameters == 0:
        return
    event = math.prod(card.theory.action.event_shape(card.theory.shape))
    n_rows, key = _rows(settings, n_processes)
    n = n_rows * settings.samples_per_row
    dtype = torch.float32 if settings.precision == "float32" else torch.float64
    graph = n * event * dtype.itemsize
    if graph * size.n_outputs * _NUMBERS_OF_AN_OUTPUT > on_device:  # else it need not be counted
        graph = size.n_bytes_of_graph(n, dtype, on_device)
    of_each = f", group_size = {settings.group_size}" if settings.samples_per_row > 1 else ""
    told = f"[training]: {key} = {n_rows}{of_each}{_on(card.theory)}: the gradient of so many samples at once"
    _require(graph + copies * size.n_bytes, on_device, told, _instead(key))
    if settings.objective == "self_normalised" or settings.latent_moves > 0:
        told = f"[training]: buffer_size = {settings.buffer_size}{_on(card.theory)}: so many configurations"
        _require(8 * settings.buffer_size * event, on_device, told, "it")
    _require(
        16 * settings.monitor_samples, free, f"[training]: monitor_samples = {settings.monitor_samples}: they", "it"
    )


def require_memory_for_chains(card: Card, table: EnsembleTable, n_chains: int) -> None:
    """Raise InputError if so many chains of this ensemble need more memory than there is."""
    where = f"[[ensemble]] {table.name}"
    sampler = planned_sampler(table.sampler, table.options, card.theory.action, where)
    event = card.theory.action.event_shape(card.theory.shape)
    chains = sampler.least_bytes(n_chains, event, table.n_updates)
    measured = _CONFIGURATIONS * n_chains * math.prod(event) * 8
    sizes = _sizes({"n_chains": n_chains, "n_updates": table.n_updates, **table.options})
    _require(chains + measured, free_memory(), f"{where}: {sizes}{_on(card.theory)}: the chains", "them")


def _size(flow: FlowTable, theory: TheoryTable, most: int) -> FlowSize:
    """The size of the flow's weights. Raises InputError if they, or its tables, are beyond memory."""
    told = f"[flow] {flow.name}: {_sizes(flow.options)}{_on(theory)}"
    _require(flow.plan.table_bytes, free_memory(), f"{told}: the tables of the flow", "them, or the lattice")
    try:
        return size_of(flow.plan, most)
    except FlowTooLarge as error:
        n, needed = error.size.n_parameters, error.size.n_bytes
        _require((_COPIES + _SAVED) * needed, 0, f"{told}: the training of {n} weights and more", "them", free_memory())
        raise


def _rows(settings: TrainingSettings, n_processes: int) -> tuple[int, str]:
    """The rows of a batch whose gradient a process computes at once, and the key that says so."""
    key = "batch_size" if settings.final_batch_size is None else "final_batch_size"
    own = -(-(settings.final_batch_size or settings.batch_size) // n_processes)
    if settings.micro_batch is not None and settings.micro_batch < own:
        return settings.micro_batch, "micro_batch"
    return own, key


def _instead(key: str) -> str:
    return "it" if key == "micro_batch" else "it, or give training.micro_batch, which is how many of them at once"


def _require(needed: int, free: int, what: str, lower: str, shown: int | None = None) -> None:
    if needed > free:
        there = in_words(free if shown is None else shown)
        raise InputError(f"{what} would take at least {in_words(needed)}, and {there} are free; lower {lower}")


def _sizes(options: Mapping[str, Any]) -> str:
    """The options that are numbers of something, as they stand on a card."""
    found = {key: value for key, value in options.items() if _is_count(value)}
    return ", ".join(f"{key} = {_short(value)}" for key, value in found.items())


def _is_count(value: Any) -> bool:
    many = isinstance(value, (list, tuple)) and len(value) > 0
    return all(map(_is_count, value)) if many else isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    return str(list(value)) if len(value) <= 4 else f"{len(value)} of up to {max(value)}"


def _on(theory: TheoryTable) -> str:
    return f" on {' x '.join(map(str, theory.shape))} sites" if theory.shape else ""
