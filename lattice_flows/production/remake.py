"""Regenerating an ensemble from the card in its file, and comparing the two."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lattice_flows.atomic_files import make_folder, write_atomically
from lattice_flows.card.card import Card, parse_card
from lattice_flows.card.plugins import OPTION, plugins
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.production.generate import check, generate_at
from lattice_flows.production.header import as_begun
from lattice_flows.production.header_check import check_header
from lattice_flows.production.origin import Origin
from lattice_flows.production.provenance import git_commit, machine, software
from lattice_flows.production.run_folder import RunFolder, as_trained, claim
from lattice_flows.production.start import start_checksum
from lattice_flows.production.train import check_training, evaluation_table, train_flow
from lattice_flows.regular_files import real
from lattice_flows.terminal.interrupt import stop_on_signals
from lattice_flows.training import CHECKPOINT_NAME, FORMERLY, load_flow_weights

_REMADE = Path("output/remade")  # apart from runs, so that output/*/ensembles/*.h5 hold no chains twice
_BLOCK_BYTES = 64 << 20


def remake(file: Path, out: Path | None, console: Console) -> bool:
    """Regenerate the ensemble of this file in the folder `out` (default: output/remade/NAME), from its card alone.

    Trains the flow that it needs, or takes the one of its run folder where the training was limited by time. Prints
    differences of versions, commit and machine, and whether the new ensemble has the same bits, which it returns.
    Raises InputError if the file does not record how it was made, or the folder holds something else; Stopped on a
    signal, after which the same command continues.
    """
    card, origin = _recipe(file)
    for text in _differences(origin.attributes):
        _say(console, text)
    folder = RunFolder(out or _REMADE / file.stem)
    is_evaluation = origin.name == evaluation_table().name
    made = folder.evaluation if is_evaluation else _place(folder, origin)
    if real(made) == real(file):
        raise InputError(f"{file}: the new ensemble would be written here; choose another --out")
    trains = is_evaluation or card.ensemble(origin.name).needs_flow
    if trains:
        check_training(folder, card)
    asked = replace(card, measurements=origin.measurements)  # some may have been added to it later
    if not is_evaluation:
        check(folder, asked, origin.name, origin.task, trains=trains)
    claim(folder, card)
    if trains and card.training.max_seconds is not None:
        _say(console, _take_flow(file, origin, folder))
    elif trains and card.flow is not None and card.flow.name in FORMERLY and not _is_in_its_run(file, origin):
        _say(console, f"flow: the defaults of [training] for {card.flow.name} have changed; without the run folder of "
             f"{file.name} those of now are taken, and the bits may differ")  # fmt: skip
    with stop_on_signals() as stop:
        if trains:
            train_flow(folder, asked, stop, console)
        if not is_evaluation:
            table = asked.ensemble(origin.name)
            generate_at(made, asked, table, folder.flow / CHECKPOINT_NAME, stop, console, origin.task)
    differing = list(_differing(file, made))
    verdict = f"differs from {file} in {', '.join(differing)}" if differing else f"holds the same bits as {file}"
    _say(console, f"{made}: {verdict}")
    return not differing


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _take_flow(file: Path, origin: Origin, folder: RunFolder) -> str:
    """Copy the flow of the file from its run folder, as no second training of limited time ends at the same step.

    Returns a line that says where the flow is from.
    """
    made = folder.flow / CHECKPOINT_NAME
    held = _run_of(file).flow / CHECKPOINT_NAME
    wanted = str(origin.attributes.get("flow_sha256", ""))
    timed = "flow: its training was limited by time (max_seconds), which ends at another step on every repetition"
    for path in (made, held):
        if path.exists() and load_flow_weights(path).sha256 == wanted:
            if path != made:
                make_folder(made.parent)
                write_atomically(made, path.read_bytes())
            return f"{timed}; taken from {held}"
    missing = "does not hold it" if held.exists() else "is not there"
    return f"{timed}; {held} {missing}, so another flow is trained, and the bits will differ"


def _run_of(file: Path) -> RunFolder:
    """The run folder of ensembles/NAME.h5 or of flow/evaluation.h5."""
    return RunFolder(real(file).parent.parent)


def _is_in_its_run(file: Path, origin: Origin) -> bool:
    """Whether the flow that the file was made with is in the same run folder."""
    path, wanted = _run_of(file).flow / CHECKPOINT_NAME, str(origin.attributes.get("flow_sha256", ""))
    return path.exists() and load_flow_weights(path).sha256 == wanted


def _training_then(file: Path, origin: Origin, card: Card) -> list[str]:
    """Overrides for what the card left open when its flow was trained, and means otherwise now."""
    if not _is_in_its_run(file, origin) or (then := as_trained(_run_of(file), card).training) == card.training:
        return []
    return [f"training.{key}={json.dumps(value)}" for key, value in asdict(then).items() if value is not None]


def _recipe(file: Path) -> tuple[Card, Origin]:
    """The card that makes the file, and the origin that the file records."""
    with Ensemble.open(file) as ensemble:
        check_header(ensemble)
        ensemble.verify()  # before work that ends in a comparison with it
        attributes = ensemble.attributes
    if missing := [key for key in ("card", "overrides", "name", "observables") if key not in attributes]:
        raise InputError(f"{file}: has no attribute {missing[0]!r}, so it cannot be regenerated")
    origin = Origin(attributes)
    if not origin.card:
        raise InputError(f"{file}: was imported from another code, so there is no card to regenerate it from")
    overrides, name = origin.overrides, origin.name
    if name != evaluation_table().name:  # an ensemble may have been extended since its card was written
        overrides = [*overrides, f"ensemble.{name}.n_configs={attributes['n_configs']}"]
    if foreign := [key for key in json.loads(str(attributes.get("plugins", "{}"))) if ":" in key]:
        raise InputError(
            f"{file}: was made with {', '.join(foreign)}, and a file runs no code that it names; "
            f"give its run folder, or its card, with {OPTION}"
        )
    with plugins(allowed=False):
        card = parse_card(origin.card, overrides, f"{file}: its card")
        if former := _training_then(file, origin, card):
            card = parse_card(origin.card, [*overrides, *former], f"{file}: its card")
    tables = {table.name: table for table in card.ensembles}
    if name in tables:  # its time was up at as many configurations as it holds
        tables[name] = replace(as_begun(tables[name], attributes), max_seconds=None)
    return replace(card, ensembles=tuple(tables.values())), origin


def _place(folder: RunFolder, origin: Origin) -> Path:
    """The path at which a run keeps this ensemble, or this task's part of it."""
    return folder.ensemble(origin.name) if origin.task is None else folder.task(origin.name, origin.task.index)


def _differences(held: Mapping[str, Any]) -> Iterator[str]:
    """The differences from the software and machine that made the file, a line each."""
    for key, now in {"software": software(), "machine": machine()}.items():
        was, here = json.loads(held.get(key, "{}")), json.loads(now)
        for item in was.keys() - {"host"}:
            if was[item] != here.get(item):
                yield f"{key}: {item} was {was[item]}, now it is {here.get(item)}"
    if held.get("git_commit") != git_commit():
        yield f"commit: was {held.get('git_commit')}, now it is {git_commit()}"
    start = str(Origin(held).sampler.get("start", ""))
    if "start_sha256" in held and held["start_sha256"] != start_checksum(start):
        yield f"start: {start} holds other data than when these chains began"


def _differing(one: Path, other: Path) -> Iterator[str]:
    """The names of the fields, series and proposals that differ between two ensembles."""
    with Ensemble.open(one) as first, Ensemble.open(other) as second:
        for name in first.series_names:
            if name not in second.series_names or not _equal(first.series(name), second.series(name)):
                yield name
        for name in first.proposal_names:
            if name not in second.proposal_names or not _equal(first.proposals(name), second.proposals(name)):
                yield f"proposals of {name}"
        if first.has_fields and not _same_fields(first, second):
            yield first.field.name


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _same_fields(first: Ensemble, second: Ensemble) -> bool:
    """Whether all fields are equal, compared block by block as files may be larger than memory."""
    if not second.has_fields or first.n_configs != second.n_configs or first.field != second.field:
        return False
    pairs = zip(first.blocks(_BLOCK_BYTES), second.blocks(_BLOCK_BYTES))
    return all(np.array_equal(one, other) for (_, one), (_, other) in pairs)
