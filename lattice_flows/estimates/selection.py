"""The user's choices for an analysis: the configurations that count, the couplings and further quantities."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lattice_flows.card.arguments import arguments, built, checked, lookup
from lattice_flows.card.build import couplings_of
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.charge_sectors import CHARGE
from lattice_flows.estimates.expressions import parse_quantity
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.samplers import windows_of
from lattice_flows.statistics import MIN_LENGTH, find_thermalisation, most_dropped
from lattice_flows.theories.action import Action
from lattice_flows.theories.catalogue import THEORIES
from lattice_flows.theories.observable import Quantity

_BLOCK_BYTES = 64 << 20
_MOST = 10**12  # configurations of any ensemble


@dataclass(frozen=True)
class Selection:
    """A selection of an ensemble's configurations, couplings and quantities; the default takes it as it is.

    thermalisation: configurations dropped at the beginning of every chain; None: found from the series.
    every: only configurations whose number is a multiple of it.
    couplings: the couplings to reweight to, if they differ from the ensemble's.
    derived: expressions "NAME = ...", see `expressions`.
    """

    thermalisation: int | None = 0
    every: int = 1
    couplings: Mapping[str, float] = field(default_factory=dict)
    derived: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.thermalisation is not None and not 0 <= self.thermalisation <= _MOST:
            raise InputError(f"--thermalisation {self.thermalisation}: must be between 0 and {_MOST}, or auto")
        if not 1 <= self.every <= _MOST:
            raise InputError(f"--every {self.every}: must be between 1 and {_MOST}")

    def of(self, group: Replicas) -> Replicas:
        """The selected part of the replicas. Raises InputError if nothing is left or the selection is impossible."""
        first = _found_thermalisation(group) if self.thermalisation is None else self.thermalisation
        drifts = self.thermalisation is None and 2 * first > most_dropped(group.n_configs) > 1
        chosen = replace(group, first=first, every=self.every, drifts=drifts)
        if chosen.n_configs < min(MIN_LENGTH, group.n_configs):
            raise InputError(
                f"{group.name}: {chosen.n_configs} of {group.n_configs} configurations per chain are left; drop fewer"
            )
        if self.couplings:
            chosen = _reweighted(chosen, self.couplings)
        return replace(chosen, derived=_derived(group, self.derived))


EVERYTHING = Selection()


def _derived(group: Replicas, texts: tuple[str, ...]) -> tuple[Quantity, ...]:
    """The quantities that these expressions define. Raises InputError for a name that is taken."""
    names = [name for name in group.files[0].series_names if group.has(name)]
    taken = {*names, *(quantity.name for quantity in group.quantities())}
    found = []
    for text in texts:
        quantity = parse_quantity(text, names)
        if quantity.name in taken:
            raise InputError(f"--derive {text!r}: the name {quantity.name!r} is taken; choose another")
        taken.add(quantity.name)
        found.append(quantity)
    return tuple(found)


def _found_thermalisation(group: Replicas) -> int:
    """The number of configurations to drop, from the series that were measured on every configuration; none of
    populations, each of which is a new one."""
    if group.populations:
        return 0
    names = ["action", *(one.name for one in group.observables())]
    measured = {name: group.series(name) for name in names if group.is_dense(name)}
    if CHARGE in measured:  # whose rounding noise would pass for motion
        measured[CHARGE] = [np.rint(chain) for chain in measured[CHARGE]]
    return find_thermalisation(list(measured.values()), group.chains_per_set or 1)


def _reweighted(group: Replicas, couplings: Mapping[str, float]) -> Replicas:
    """The replicas with log weights S - S' for the theory with these couplings in place of its own."""
    if windows_of(group.sampler):
        name = group.sampler["name"]
        raise InputError(f"{group.name}: {name} windows are joined by MBAR for one theory only; do not reweight")
    theory = group.sampled_theory
    own = couplings_of(theory)
    where = "--reweight"
    constructor = lookup(THEORIES, theory["name"], f"{where}: theory")
    wanted = checked(arguments(constructor), {**own, **couplings}, where)
    source, target = constructor(**own), built(constructor, where, **wanted)
    ratios = tuple(_log_ratio(file, source, target) for file in group.files)
    for file in group.files:
        file.close()
    return replace(group, target={**theory, **wanted}, log_ratios=ratios)


def _log_ratio(file: Ensemble, source: Action, target: Action) -> np.ndarray:
    """S - S' of every configuration, (n_configs, n_chains), from the series or else from fields, block by block."""
    action = file.series("action")
    factor = target.multiple_of(source)
    if factor is not None:
        return (1.0 - factor) * action
    if not file.has_fields:
        raise InputError(f"{file.path}: stores no fields, which reweighting in these couplings needs")
    log_ratio = np.empty_like(action)
    for start, block in file.blocks(_BLOCK_BYTES):
        flat = block.astype(source.space.dtype, copy=False).reshape(-1, *file.field.shape)  # (n * B, *event)
        log_ratio[start : start + len(block)] = (source.evaluate(flat) - target.evaluate(flat)).reshape(block.shape[:2])
    return log_ratio


def parse_thermalisation(text: str) -> int | None:
    """The number, or None for "auto". Raises InputError for anything else."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--thermalisation {text!r}: must be a number of configurations, or auto") from None


def parse_couplings(texts: list[str]) -> dict[str, Any]:
    """The couplings by name, {"beta": 6.1, "n_wells": 3} for ["beta=6.1", "n_wells=3"]: whole numbers without a point
    are integers, as in a card. Raises InputError for anything else.
    """
    couplings: dict[str, Any] = {}
    for text in texts:
        key, _, value = (part.strip() for part in text.partition("="))
        number = _number(value)
        if not key or number is None:
            raise InputError(f"{text!r}: must be written COUPLING=NUMBER, such as beta=6.1")
        if key in couplings:
            raise InputError(f"{text!r}: the coupling {key!r} is given twice")
        couplings[key] = number
    return couplings


def _number(text: str) -> int | float | None:
    """None for what is no finite number."""
    for kind in (int, float):
        try:
            number = kind(text)
            return number if math.isfinite(number) else None
        except (ValueError, OverflowError):  # the latter of an integer beyond every float
            continue
    return None
