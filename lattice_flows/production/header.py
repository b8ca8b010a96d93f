"""The header of an ensemble file, which records its origin, and checks that a file is the one a card asks for."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lattice_flows.card.card import Card, EnsembleTable, standard_measurements
from lattice_flows.card.samplers import options_as_before, options_as_begun, samplers_in
from lattice_flows.errors import InputError
from lattice_flows.production.devices import kernel_threads, network_threads, resolve_device
from lattice_flows.production.job_array import Task, chains_for, in_words
from lattice_flows.production.origin import Origin, origin_attributes, text_as_before
from lattice_flows.production.pilot_chains import merged
from lattice_flows.samplers import Sampler
from lattice_flows.theories.catalogue import theory_as_before


def check_chains(path: Path, held: dict[str, Any], table: EnsembleTable, task: Task | None) -> None:
    """Raise InputError if the file holds other chains than the card, or the task, asks for."""
    found, wanted = range(held["first_chain"], held["first_chain"] + held["n_chains"]), chains_for(table, task)
    if task is None and found != wanted:
        raise InputError(f"{path}: holds {len(found)} chains, but the card asks for {len(wanted)}")
    if task is not None and (found != wanted or held.get("task") != str(task)):
        raise InputError(
            f"{path}: holds {in_words(found)} of task {held.get('task')}, but task {task} should hold "
            f"{in_words(wanted)}; continue with the original number of tasks, or delete or move the files of all tasks"
        )


def as_begun(table: EnsembleTable, held: Mapping[str, Any]) -> EnsembleTable:
    """The table for more chains of the ensemble with these attributes.

    What an older version did not know, and the card does not say, is as it was.
    """
    stored = json.loads(str(held.get("sampler", "{}")))
    if stored.get("name") != table.sampler:
        return table
    return replace(table, options=options_as_begun(table.sampler, table.options, table.given, stored))


def check_same(path: Path, held: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise InputError if the file was made with another theory, sampler, seed or flow than the card asks for.

    A file of an older version lacks the couplings and arguments that came later: it means their former values.
    """
    for key in ("name", "theory", "sampler", "seed", "weighted", "flow_sha256"):
        if text_as_before(held, key) != text_as_before(wanted, key):
            raise InputError(
                f"{path}: holds chains of another {key} than the card asks for ({held.get(key)}, not {wanted[key]}); "
                "give the ensemble another name, or delete or move the file"
            )


def with_measurements_of(path: Path, held: dict[str, Any], card: Card) -> Card:
    """The card with the observables of the file, to which `measure` may have added some.

    A file of an older version may lack standard ones, and is continued without them. Raises InputError if it lacks an
    observable that the card asks for by name.
    """
    found = Origin(held).measurements
    for measurement in card.measurements:
        if measurement not in found and measurement not in standard_measurements(card.theory):
            raise InputError(
                f"{path}: holds chains without the observable {measurement.as_dict()}, which the card asks for; "
                "`lattice-flows measure` adds it to a finished ensemble"
            )
    return replace(card, measurements=found)


def left_out(card: Card, resumed: Card) -> str:
    """A line that names the card's observables that the file, of the resumed card, goes on without; or nothing."""
    names = [one.observable.name for one in card.measurements if one not in resumed.measurements]
    if not names:
        return ""
    return f"goes on without {', '.join(names)}, which were no standard observables when it was begun"


def of_two_programs(card: Card, table: EnsembleTable, held: Mapping[str, Any]) -> list[str]:
    """A line for each of the ensemble's plug-ins whose code is not what it was when the file was begun."""
    others = {name for one in card.ensembles for name, _ in samplers_in(one.sampler, one.options)}
    others -= {name for name, _ in samplers_in(table.sampler, table.options)}
    stored = Origin(held).plugins
    changed = [
        name for name in card.plugins if name not in others and stored.get(name) not in (None, card.plugins[name])
    ]
    return [
        f"its plug-in {name} was {stored[name]}, now it is {card.plugins[name]}: the chains are of two programs"
        for name in changed
    ]


def header_of(
    card: Card, table: EnsembleTable, sampler: Sampler, checksum: str, task: Task | None
) -> dict[str, str | int]:
    """The root attributes that record how the ensemble was made."""
    settings = merged(table.options, sampler.findings())
    settings |= {"name": table.sampler, "n_updates": table.n_updates, "start": table.start}
    settings["n_thermalisation"] = table.n_thermalisation
    return origin_attributes(
        table.name,
        card.theory.as_dict(),
        settings,
        card.measurements,
        weighted=sampler.weighted,
        chains_per_set=sampler.chains_per_set,
        seed=card.seed,
        threads=threads_for(table, chains_for(table, task)),
        device=str(resolve_device(card.device)) if table.needs_flow else "cpu",
        card=card.text,
        overrides=card.overrides,
        flow_sha256=checksum,
        plugins=card.plugins,
    ) | ({} if task is None else {"task": str(task)})


def identity_of(card: Card, table: EnsembleTable) -> str:
    """The name of an ensemble's random streams: points of a scan and continuations from a file have their own.

    It contains the sampler's options as given, not as tuned, and what came later only where it changes something.
    """
    theory, options = theory_as_before(card.theory.as_dict()), options_as_before(table.sampler, table.options)
    return json.dumps([table.name, theory, table.sampler, options, table.start])


def threads_for(table: EnsembleTable, chains: range) -> int:
    return network_threads() if table.needs_flow else kernel_threads(len(chains))


def chains_of(attributes: Mapping[str, Any]) -> str:
    """A digest shared by ensembles whose chains drew the same random numbers: equal seed, name, sampler and theory."""
    origin = json.dumps([text_as_before(attributes, key) for key in ("seed", "name", "sampler", "theory")])
    return hashlib.sha256(origin.encode()).hexdigest()[:16]
