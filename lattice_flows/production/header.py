"""The header of an ensemble file, which records its origin, and checks that a file is the one a card asks for."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lattice_flows.card.card import Card, EnsembleTable, standard_measurements
from lattice_flows.card.samplers import completed_options, options_as_before, options_as_begun, samplers_in
from lattice_flows.differences import differences, few
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.production.devices import kernel_threads, network_threads, resolve_device
from lattice_flows.production.job_array import Task, chains_for, in_words
from lattice_flows.production.origin import Origin, origin_attributes, text_as_before
from lattice_flows.production.pilot_chains import merged
from lattice_flows.production.start import start_checksum
from lattice_flows.samplers import Sampler
from lattice_flows.theories.catalogue import completed_theory, theory_as_before
from lattice_flows.theories.measurement import Measurement
from lattice_flows.training import CHECKPOINT_NAME

CHAIN_DIGESTS = "chain_digests"  # of imported chains: what they hold, not how they were drawn, says which they are


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


def check_same(path: Path, ensemble: Ensemble, card: Card, table: EnsembleTable, flow_sha256: str | None) -> None:
    """Raise InputError, key by key, if the file was not made by this card, or with another flow than the one given.

    table        as it was begun
    flow_sha256  the checksum of the flow, "" for an ensemble without one; None: not known, and not looked at

    More configurations and more observables are no difference. A file of an older version lacks the couplings and
    arguments that came later: it means their former values.
    """
    held = ensemble.attributes
    if (name := held.get("name")) != table.name:
        raise InputError(f"{path}: holds the ensemble {name!r}, not {table.name!r}; move it back to its place")
    told = differences({"seed": card.seed}, {"seed": held.get("seed")}, "")
    told += differences(completed_theory(_plain(card.theory.as_dict())), Origin(held).theory, "theory")
    told += differences(*_tables(ensemble, table), f"ensemble.{table.name}")
    if told:
        raise InputError(
            f"{path}: was made by another card: {few(told)}; restore what was there, give the ensemble another name, "
            "or delete or move the file"
        )
    made = str(held.get("flow_sha256", flow_sha256))  # a file of another program does not say
    if flow_sha256 is not None and made != flow_sha256:
        raise InputError(
            f"{path}: was made with the flow of checksum {made[:12]}..., but that of {CHECKPOINT_NAME} is "
            f"{flow_sha256[:12]}...; restore the checkpoint, or delete or move the file"
        )


def _tables(ensemble: Ensemble, table: EnsembleTable) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the card and the file say of the ensemble, each as a table of a card, with the keys that were left open."""
    held = Origin(ensemble.attributes)
    now = {
        "sampler": table.sampler,
        "n_updates": table.n_updates,
        "start": table.start,
        "n_thermalisation": table.n_thermalisation,
        "store_fields": table.store_fields,
        "field_dtype": table.field_dtype,
        "compression": table.compression,
        **completed_options(table.sampler, _plain(table.options)),
    }
    before = {
        **{key: held.sampler.get(key) for key in ("n_updates", "start", "n_thermalisation")},
        "sampler": held.sampler.get("name"),
        "store_fields": ensemble.has_fields,
        "field_dtype": ensemble.field.dtype,
        "compression": ensemble.attributes["compression"],
        **held.sampler_as_given,
    }
    if now["sampler"] != before["sampler"]:
        return {"sampler": now["sampler"]}, {"sampler": before["sampler"]}
    return (now, before) if held.knows_what_was_given else (_known(now, before), _left_open(now, before))


def _known(now: Any, before: Any) -> Any:
    """The part of `now`, at any depth, of which `before` says anything: an older file has not recorded all."""
    if isinstance(now, Mapping) and isinstance(before, Mapping):
        return {key: _known(value, before[key]) for key, value in now.items() if before.get(key) is not None}
    if isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        return [_known(one, other) for one, other in zip(now, before)]
    return now


def _left_open(now: Any, before: Any) -> Any:
    """The part of `before`, at any depth, that is not open in `now`: an older file holds there what tuning found."""
    if isinstance(now, Mapping) and isinstance(before, Mapping):
        return {key: _left_open(now[key], value) for key, value in before.items() if now.get(key) is not None}
    if isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        return [_left_open(one, other) for one, other in zip(now, before)]
    return before


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table as it is read from JSON."""
    return json.loads(json.dumps(table))


def new_measurements(held: Mapping[str, Any], card: Card) -> list[Measurement]:
    """The measurements that the card asks for by name, and the file does not have."""
    found = Origin(held).measurements
    standard = standard_measurements(card.theory)
    return [one for one in card.measurements if one not in found and one not in standard]


def with_measurements_of(held: Mapping[str, Any], card: Card) -> Card:
    """The card with the observables of the file, to which `measure` may have added some.

    A file of an older version may lack standard ones, and is continued without them.
    """
    return replace(card, measurements=Origin(held).measurements)


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
        populations=sampler.populations,
        seed=card.seed,
        threads=threads_for(table, chains_for(table, task)),
        device=str(resolve_device(card.device)) if table.needs_flow else "cpu",
        card=card.text,
        overrides=card.overrides,
        flow_sha256=checksum,
        plugins=card.plugins,
        sampler_given=table.options,
        start_sha256=start_checksum(table.start),
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
    """A digest shared by ensembles whose chains drew the same random numbers: equal seed, name, sampler and theory.

    Imported ones drew none here: they are the same where they hold the same.
    """
    keys = ("seed", "name", "sampler", "theory", *((CHAIN_DIGESTS,) if CHAIN_DIGESTS in attributes else ()))
    origin = json.dumps([text_as_before(attributes, key) for key in keys])
    return hashlib.sha256(origin.encode()).hexdigest()[:16]


def chain_digests(attributes: Mapping[str, Any]) -> list[str] | None:
    """What identifies each chain of an imported ensemble, "" for one that never moved; None for chains of this package
    and for imports of older versions, which are identified by seed and number.
    """
    return json.loads(str(attributes[CHAIN_DIGESTS])) if CHAIN_DIGESTS in attributes else None
