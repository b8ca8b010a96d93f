"""The changes of a card that a run takes: it may become larger, and stays the same run."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from lattice_flows.card.card import MANY, Card, EnsembleTable
from lattice_flows.differences import differences
from lattice_flows.training.resumable import refused_settings


def refused_changes(new: Card, held: Card) -> list[str]:
    """What keeps a run of the card `held` from becoming that of the card `new`, a text for each key.

    It may become larger: more configurations, ensembles and observables, a flow where there was none, and a longer
    training. Texts and overrides may be others that mean the same.
    """
    told = differences({"seed": new.seed, "device": new.device}, {"seed": held.seed, "device": held.device}, "")
    told += differences(new.theory.as_dict(), held.theory.as_dict(), "theory")
    if held.flow is not None:
        told += differences({} if new.flow is None else new.flow.as_dict(), held.flow.as_dict(), "flow")
        told += refused_settings(new.training, asdict(held.training))
    tables = {table.name: table for table in new.ensembles}
    for before in held.ensembles:
        told += _of_ensemble(tables.get(before.name), before)
    told += [
        f"observable {one.observable.name}: absent or changed on the card"
        for one in held.measurements
        if one not in new.measurements
    ]
    return told


def _of_ensemble(new: EnsembleTable | None, held: EnsembleTable) -> Iterator[str]:
    where = f"ensemble.{held.name}"
    if new is None:
        yield f"{where}: absent on the card"
        return
    yield from differences(_table(new), _table(held), where)
    for key, limit in (("n_configs", MANY), ("max_seconds", math.inf)):
        asked, had = (getattr(table, key) or limit for table in (new, held))
        if asked < had:
            was = had if had < limit else "no limit"
            yield f"{where}.{key}: {asked} on the card, {was} in the run, and it may only grow"


def _table(table: EnsembleTable) -> Mapping[str, Any]:
    derived = ("name", "n_configs", "max_seconds", "options", "given", "chains_per_set")
    return {key: value for key, value in asdict(table).items() if key not in derived} | table.options
