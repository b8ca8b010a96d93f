"""Diagnostics of an ensemble's chains: motion, acceptance and cost, and the doubts these cast on its numbers."""

from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from lattice_flows.card.samplers import samplers_in
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.summary_types import Acceptance, Cost, Diagnostics, Observables
from lattice_flows.estimates.weights import PATHS, Unit, reweighting_summary, unit_of, weights_summary, weights_warnings
from lattice_flows.samplers import windows_of
from lattice_flows.statistics import (
    MAX_PARETO_K_OF_MEAN,
    MIN_CHANGES,
    MIN_LENGTH,
    count_changes,
    count_crossings,
)
from lattice_flows.theories.observable import Observable

Figures = TypeVar("Figures", bound=Mapping[str, object])

_LOW_ACCEPTANCE = 0.1
_LONG_RUN = 0.05  # a run of rejections over so much of a chain says that the flow misses a region
_CHARGE = "topological_charge"
_CHARGE_SQUARED = "topological_charge_squared"


class Finding(NamedTuple, Generic[Figures]):
    """Figures for the summary, warnings, and doubts: warnings after which no error of the ensemble can be trusted."""

    figures: Figures
    warnings: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


class Motion(NamedTuple):
    """The number of moves of the slowest series, and a text that states it."""

    changes: int
    text: str

    @property
    def frozen(self) -> bool:
        """Whether there are too few for any error."""
        return self.changes < MIN_CHANGES


def slowest_motion(group: Replicas) -> Motion:
    """The number of changes of the topological charge, or without one the fewest passages of any series. group: not
    thinned."""
    if group.has(_CHARGE) and min(map(len, group.series(_CHARGE))) >= MIN_LENGTH:
        changes = sum(count_changes(chain) for chain in group.series(_CHARGE))
        return Motion(changes, f"the topological charge changed {changes} times")
    measured = [one for one in group.observables() if group.has(one.name)]
    long = [one for one in measured if min(map(len, group.series(one.name))) >= MIN_LENGTH]
    passages = {one.name: _passages(group, one) for one in long}
    if not passages:
        return Motion(0, "there are too few configurations to say whether anything moves")
    slowest = min(passages, key=passages.__getitem__)
    return Motion(passages[slowest], f"{slowest} went through its range {passages[slowest]} times")


def cost(group: Replicas, observables: Observables, motion: Motion, causes: Sequence[str] = ()) -> Finding[Cost]:
    """Whether the ensemble is frozen, and the core seconds of an independent configuration.

    group: not thinned, as thinning changes neither the motion of chains nor their cost; observables: its estimates;
    causes: what is known to hold the chains up.
    Thermalisation that was dropped does not count as cost, and what is known by a symmetry, such as <M> = 0, does not
    measure it where there is anything else.
    """
    kept = group.n_kept / sum(file.n_configs * file.n_chains for file in group.files)
    core_seconds = kept * group.core_seconds
    odd = {quantity.name for quantity in group.quantities() if quantity.by_symmetry}
    name = _cost_observable({name: row for name, row in observables.items() if name not in odd} or observables)
    figures: Cost = {"frozen": motion.frozen, "cost_observable": name, "seconds_per_independent_config": None}
    if motion.frozen:
        bound = core_seconds / max(1, motion.changes) if core_seconds > 0 else None
        figures["seconds_per_independent_config_at_least"] = bound
        why = f": {'; '.join(causes)}" if causes else "; take a sampler that moves it, or run much longer"
        return Finding(figures, doubts=(f"frozen: {motion.text}; errors cannot be trusted{why}",))
    n_eff = observables[name]["n_eff"] if name is not None else None
    if n_eff is not None and core_seconds > 0:  # nobody knows what an imported ensemble took
        figures["seconds_per_independent_config"] = core_seconds / n_eff
    return Finding(figures)


def reweighting(group: Replicas) -> Finding[Diagnostics]:
    """The overlap with the couplings to which averages are reweighted."""
    if not group.log_ratios:
        return Finding({})
    figures = reweighting_summary(group)
    n = figures["n_effective"]
    count = "fewer than one" if n < 1.0 else f"{n:.0f}"
    overlaps = figures["ess"] * figures["n_samples"] >= _unit(group).fewest
    light = figures["pareto_k"] is None or figures["pareto_k"] <= MAX_PARETO_K_OF_MEAN
    if overlaps and light:
        text = f"reweighting: effective independent configurations: {count}, too few; let it run longer"
    else:
        text = (
            f"reweighting: too little overlap, effective independent configurations: {count}, "
            f"Pareto k-hat = {figures['pareto_k']:.2f}; simulate nearer to these couplings"
        )
    return Finding({"reweighting": figures}, doubts=() if figures["log_z_reliable"] else (text,))


def drift(group: Replicas) -> Finding[Diagnostics]:
    """The doubt about an ensemble whose detected thermalisation takes up most of what may be dropped."""
    text = (
        f"still drifts: {group.first} configurations of each chain were dropped, and the rest may not be in "
        "equilibrium; let it run longer"
    )
    return Finding({}, doubts=(text,) if group.drifts else ())


def round_trips(group: Replicas) -> Finding[Diagnostics]:
    """The number of trips of replicas from the target to the end of the ladder and back, of the sampler itself or of
    the one inside it that made the fewest. group: not thinned.
    """
    found = _with_parts(group, "round_trips")
    if not found:
        return Finding({})
    counts = {series: int(sum(chain.sum() for chain in group.series(series))) for series in found}
    trips = counts.get("round_trips", min(counts.values()))
    n_updates = group.n_kept * group.sampler["n_updates"]
    figures: Diagnostics = {"round_trips": trips, "updates_per_round_trip": n_updates / trips if trips else None}
    texts = [
        f"only {counts[series]} round trips{of_part}: replicas hardly forget on their way where they were; let it run "
        "longer, or place more rungs or windows"
        for series, of_part in found.items()
        if counts[series] < MIN_CHANGES
    ]
    return Finding(figures, doubts=tuple(texts))


def short_build(group: Replicas) -> Finding[Diagnostics]:
    """The doubt about a bias, at any depth of the sampler, that thermalisation built from too few deposits."""
    settings = group.sampler
    for name, sampler in samplers_in(settings["name"], settings):
        if settings.get("n_thermalisation", 0) < (fewest := sampler.fewest_deposits):
            return Finding(
                {}, doubts=(f"n_thermalisation below {fewest}: the bias of {name} is hardly built; raise it",)
            )
    return Finding({})


def rejections(group: Replicas) -> Finding[Diagnostics]:
    """The longest run of rejected proposals, of the sampler or of any inside it. group: not thinned."""
    found = _with_parts(group, "rejection_run")
    if not found:
        return Finding({})
    longest = {series: int(max(chain.max() for chain in group.series(series))) for series in found}
    limit = max(20.0, _LONG_RUN * group.n_configs * group.sampler["n_updates"])
    texts = [
        f"a chain rejected {longest[series]} proposals{of_part} in a row: the flow hardly covers where it was; "
        "train it longer"
        for series, of_part in found.items()
        if longest[series] > limit
    ]
    return Finding({"longest_rejection_run": max(longest.values())}, tuple(texts))


def acceptance(group: Replicas) -> Finding[Acceptance]:
    """The mean acceptance rate over all updates (None if nothing is tested), with warnings of low rates."""
    found = _with_parts(group, "accepted")
    rates = {series: _mean(group, series) for series in found}
    low = {series: of_part for series, of_part in found.items() if rates[series] < _LOW_ACCEPTANCE}
    texts = [
        f"acceptance rate {rates[series]:.2g}{of_part}: {'it hardly moves' if of_part else 'the chains hardly move'}; "
        "let it be tuned, or train its flow longer"
        for series, of_part in low.items()
        if series == "accepted" or "accepted" not in low
    ]
    return Finding({"acceptance_rate": rates.get("accepted")}, tuple(texts))


def _with_parts(group: Replicas, name: str) -> dict[str, str]:
    """The series of this name of the ensemble's sampler and of those inside it, each with the part of which it tells.

    From the outside to the inside: NAME_0_1 is that of part 1.0, the part 0 of part 1.
    """
    found = {name: ""} if group.has(name) else {}
    for series in group.series_of_parts(name):
        found[series] = f" of part {'.'.join(reversed(series.removeprefix(name).split('_')[1:]))}"
    return found


def _mean(group: Replicas, name: str) -> float:
    """The mean of the series over all chains."""
    sums = [(chain.sum(), chain.size) for chain in group.lazy_series(name)]
    return float(sum(part for part, _ in sums) / sum(size for _, size in sums))


def proposals(group: Replicas) -> Finding[Diagnostics]:
    """A summary of the weights of all proposals of a flow: those of chains, whose averages are not weighted, or of
    weighted samples or populations, whose averages are."""
    log_w = group.proposals("log_w")
    if log_w is None or np.isfinite(log_w).sum() < 2:
        return Finding({})
    unit = _unit(group)
    figures = weights_summary(log_w, unit)
    texts = tuple(weights_warnings(figures, unit))
    if group.sampled_with_weights and not figures["log_z_reliable"]:
        return Finding({"proposals": figures}, doubts=texts)
    comfort = "" if unit is PATHS else " (the chain itself is exact)"
    exact = tuple(f"proposals: {text}{comfort}" for text in texts)
    return Finding({"proposals": figures}, warnings=exact)


def _unit(group: Replicas) -> Unit:
    return unit_of(group.n_particles, str(group.sampler.get("name", "")))


def _passages(group: Replicas, one: Observable) -> int:
    """How often the chains went through the range of a series; with windows through that of their own, the fewest.

    Where windows swap, it is configurations that go through it: counted are their round trips.
    """
    chains = group.series(one.name)
    if windows_of(group.sampler) is None:
        return count_crossings(chains, one.odd)
    if group.has("round_trips"):
        return int(sum(trips.sum() for trips in group.series("round_trips")))
    own = [int(chain[0]) for chain in group.series("window")]
    return min(count_crossings([chain for chain, k in zip(chains, own) if k == window]) for window in set(own))


def _cost_observable(observables: Observables) -> str | None:
    """The observable by which independent configurations are counted: Q^2, or without Q the slowest of these."""
    n_eff = {name: n for name, row in observables.items() if (n := row["n_eff"]) is not None and n > 0}
    if _CHARGE_SQUARED in observables:
        return _CHARGE_SQUARED if _CHARGE_SQUARED in n_eff else None
    return min(n_eff, key=n_eff.__getitem__) if n_eff else None
