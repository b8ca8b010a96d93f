"""Estimates of quantities from the series of an ensemble, and the warnings about them."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from lattice_flows.card.build import closed_forms_of
from lattice_flows.estimates.agreement import Agreement
from lattice_flows.estimates.replicas import LOG_W, Replicas, are_same
from lattice_flows.estimates.summary_types import Observables
from lattice_flows.estimates.umbrella_windows import block_doubt, joined_estimator
from lattice_flows.statistics import (
    FEWEST_POPULATIONS,
    MAX_PARETO_K_OF_MEAN,
    MIN_CHANGES,
    MIN_LENGTH,
    Estimate,
    LazyReplicas,
    count_crossings,
    derived,
    derived_reweighted,
    gamma_method,
    jackknife_over_chains,
    mapped,
    population_means,
    pull,
    r_hat,
    r_hat_and_crossings,
    sizes_of,
    unit_weights,
)
from lattice_flows.theories.observable import Quantity, Term

Chains = Sequence[np.ndarray]

_R_HAT_LIMIT = 1.05
_LENGTH_IN_TAU = 100  # a chain set shorter than so many tau_int does not know its tau_int
_CHAIN_LENGTH_IN_TAU = 10  # a shorter one hardly knows more than its start, and a window does not fit into it
_SLOW_MODE = 0.003  # the probability at which blocks of the chains are believed, not tau_int: few false alarms
_FAR = 5.0  # errors
_FEWEST_CHAINS = 4  # that tell a spread


def observables_summary(
    group: Replicas, sound_weights: bool = True, moves: bool = True
) -> tuple[Observables, list[str]]:
    """The estimate of every quantity whose series are measured, and warnings about them: one for each cause, of which a
    quantity is told the first.

    sound_weights: whether the weights as a whole, where there are any, can carry averages; moves: whether the chains
        move. What is wrong with single quantities is told where they do; where not, the cause has been told.
    """
    exact = closed_forms_of(group.theory)
    joined = joined_estimator(group)
    estimate = joined or plain_estimator(group)
    observables: Observables = {}
    warnings: list[str] = []
    suspicious: dict[str, list[str]] = {}
    of_blocks = block_doubt(group)
    # Weights do not cure chains that disagree or hardly move: where only the couplings are changed, the chains as they
    # were sampled are looked at.
    evenly = not group.sampled_with_weights
    looks, together = _Looks(), Agreement()
    terms: list[Chains] = []
    for quantity in group.quantities():
        terms.clear()  # a large series goes before the next one is read
        terms = _terms(group, quantity)
        if refused := _refused(group, quantity, terms):
            suspicious.setdefault(refused, []).append(quantity.name)
            continue
        try:
            found = estimate(quantity, terms)
        except (ValueError, ZeroDivisionError) as error:
            reason = str(error).partition(" at the means ")[0]  # which differ from one quantity to the next
            suspicious.setdefault(f"no estimate: {reason}", []).append(quantity.name)
            continue
        agreement = looks.agreement(quantity, terms) if evenly else math.nan
        tau_int = _tau_int(quantity, terms, found) if evenly and group.weighted else found.tau_int
        crossings = partial(looks.crossings, quantity) if evenly else lambda _: MIN_CHANGES
        slow = _slowness(found._replace(tau_int=tau_int), agreement, terms, crossings)
        if found.slow_mode < _SLOW_MODE:
            found = _by_blocks(found)
            slow = slow or "a slow mode hides in it: the error is that of long blocks of the chains; let it run longer"
        doubts = [slow] if slow else []
        if group.weighted and not joined and found.n_eff > 0:
            found = _by_n_eff(found, sum(sizes_of(terms[0])))
        if sound_weights and MAX_PARETO_K_OF_MEAN < found.pareto_k < math.inf:
            doubts.append(
                f"its largest values have large weights, Pareto k-hat of w |O - <O>| above {MAX_PARETO_K_OF_MEAN}, so "
                "the error is too small; sample nearer to the target"
            )
        if 0 < found.n_eff < quantity.least_n_eff:
            doubts.append(
                f"n_eff below {quantity.least_n_eff:.0f}, too few for the error of a cumulant; let it run longer"
            )
        if group.weighted and not joined and _weighted_chains_disagree(group, quantity, terms, found.error):
            doubts.append(
                "leaving out one chain changes the weighted average by more than its error; let it thermalise longer"
            )
        if of_blocks:
            doubts.append(of_blocks)
        if few := _too_few_populations(group, terms):
            doubts.insert(0, few)
        truth = quantity.exact(exact) if quantity.exact and (exact or quantity.by_symmetry) else None
        observables[quantity.name] = {
            "value": found.value,
            "error": found.error,
            "tau_int": found.tau_int,
            "tau_int_error": found.tau_int_error,
            "window": found.window,
            "n_eff": found.n_eff,
            "r_hat": agreement,
            "exact": truth,
            "pull": None if truth is None else pull(found.value, found.error, truth),
            "trusted": not doubts,
            "label": quantity.short._asdict(),
        }
        if doubts and moves and sound_weights:
            suspicious.setdefault(doubts[0], []).append(quantity.name)
        if not (doubts or joined or quantity.function) and (known := observables[quantity.name]["pull"]) is not None:
            chains = _weighted_fluctuations(group, quantity, terms, found.value) if group.weighted else terms[0]
            rows, independent = group.rows(quantity.terms[0].series), population_means(chains, group.n_particles)
            tau_int = tau_int if group.populations else found.tau_int
            together.add(quantity.name, known, tau_int, independent, rows[:: group.n_particles])
    if moves and sound_weights and (text := _far_off(observables) or together.warning()):
        warnings.append(text)
    if names := group.partly_measured():
        warnings.append(
            f"{', '.join(names)}: not measured in all files, or not equally often, so left out; where fields are kept "
            "`lattice-flows measure` adds it"
        )
    if beyond := [quantity.name for quantity in group.beyond_weights()]:
        warnings.append(
            f"{', '.join(beyond)}: averages of these belong to the chain as it was sampled, so left out; sample the "
            "target itself for them"
        )
    return observables, warnings + [f"{', '.join(names)}: {text}" for text, names in suspicious.items()]


def _far_off(observables: Observables) -> str:
    """A warning about values that are more than five errors off, or nothing."""
    far = [name for name, row in observables.items() if row["pull"] is not None and abs(row["pull"]) > _FAR]
    if not far:
        return ""
    return (
        f"{', '.join(far)}: more than {_FAR:.0f} errors off the exact value: not in equilibrium, or not of this "
        "theory; compare with another sampler, and look at couplings and axes of what was imported"
    )


def _by_blocks(found: Estimate) -> Estimate:
    """The estimate with the error of its blocks, and tau_int and n_eff to match."""
    factor = (found.block_error / found.error) ** 2
    tau_int, tau_int_error = factor * found.tau_int, factor * found.tau_int_error
    return found._replace(
        error=found.block_error, tau_int=tau_int, tau_int_error=tau_int_error, n_eff=found.n_eff / factor
    )


def _by_n_eff(found: Estimate, n: int) -> Estimate:
    """A weighted estimate with tau_int = N / (2 n_eff), in which the unevenness of the weights counts too."""
    tau_int = 0.5 * n / found.n_eff
    error = tau_int * found.tau_int_error / found.tau_int if found.tau_int > 0 else math.nan
    return found._replace(tau_int=tau_int, tau_int_error=error)


def _terms(group: Replicas, quantity: Quantity) -> list[Chains]:
    """The values of the terms on every chain; for a large series they are computed one chain at a time."""
    names = {term.series for term in quantity.terms}
    if not any(map(group.is_large, names)):
        return [[term.transform(chain) for chain in group.series(term.series)] for term in quantity.terms]
    read = group.series if len(names) == 1 else group.lazy_series
    return [mapped(term.transform, read(term.series)) for term in quantity.terms]


def _tau_int(quantity: Quantity, terms: list[Chains], reweighted: Estimate) -> float:
    """The larger tau_int of a quantity with its weights and without: weights may hide a slow mode."""
    plain = derived(quantity.function, *terms) if quantity.function else gamma_method(terms[0])
    return float(np.fmax(plain.tau_int, reweighted.tau_int))


def plain_estimator(group: Replicas) -> Callable[[Quantity, list[Chains]], Estimate]:
    """The estimator for the ensemble's averages: plain or weighted."""
    if group.weighted:
        return lambda quantity, terms: derived_reweighted(
            quantity.function or _itself,
            _log_weights(group, quantity),
            *terms,
            chains_per_set=1 if group.populations else group.chains_per_set or 1,
            n_particles=group.n_particles,
        )
    return lambda quantity, terms: derived(quantity.function, *terms) if quantity.function else gamma_method(terms[0])


def _log_weights(group: Replicas, quantity: Quantity) -> Chains:
    """log w of the configurations on which the quantity was measured."""
    return group.series_like(LOG_W, quantity.terms[0].series)


def _weighted_fluctuations(group: Replicas, quantity: Quantity, terms: list[Chains], mean: float) -> Chains:
    """w (O - <O>) of every chain."""
    weights = unit_weights(_log_weights(group, quantity))
    return mapped(lambda w, values: w * (values - mean), weights, terms[0])


def _weighted_chains_disagree(group: Replicas, quantity: Quantity, terms: list[Chains], error: float) -> bool:
    """Whether leaving out one chain at a time changes the figure more than its error allows, by three deviations.

    Chains that each have an unfinished bias of their own sit in different places, with weights to match, which the
    fluctuations within each chain do not show.
    """
    n_sets = len(terms[0]) // (group.chains_per_set or 1)
    if n_sets < _FEWEST_CHAINS:
        return False
    log_w = _log_weights(group, quantity)
    function = quantity.function or _itself
    spread = jackknife_over_chains(function, log_w, *terms, chains_per_set=group.chains_per_set)
    return spread > error * (1.0 + 3.0 / math.sqrt(2.0 * (n_sets - 1)))


def _too_few_populations(group: Replicas, terms: list[Chains]) -> str:
    """The reason to doubt the error of averages over populations, or an empty string."""
    if not group.populations or sum(sizes_of(terms[0])) >= FEWEST_POPULATIONS * group.n_particles:
        return ""
    return f"fewer than {FEWEST_POPULATIONS} populations, so the error is not known; make more configurations"


def _itself(mean: float) -> float:
    return mean


def _refused(group: Replicas, quantity: Quantity, terms: list[Chains]) -> str:
    """The reason why there can be no estimate, or an empty string."""
    if min(sizes_of(terms[0])) < MIN_LENGTH:
        return "too few configurations for an error; make more"
    rows = [group.rows(term.series) for term in quantity.terms]
    if not all(are_same(a, b) for other in rows[1:] for a, b in zip(rows[0], other)):
        return "takes series that were not measured on the same configurations"
    return ""


def _agreement_and_crossings(chains: Chains) -> tuple[float, int]:
    """R-hat and the number of crossings. R-hat uses only as much of each chain as the shortest one has."""
    n = min(sizes_of(chains))
    if n == max(sizes_of(chains)):
        return r_hat_and_crossings(chains)
    return r_hat(LazyReplicas([n] * len(chains), lambda k: chains[k][:n])), count_crossings(chains)


class _Looks:
    """R-hat and the number of passages of each term, computed once for all quantities that share it."""

    def __init__(self) -> None:
        self._found: dict[Term, tuple[float, int]] = {}

    def _of(self, quantity: Quantity, terms: list[Chains]) -> list[tuple[float, int]]:
        for term, chains in zip(quantity.terms, terms):
            if term not in self._found:
                self._found[term] = _agreement_and_crossings(chains)
        return [self._found[term] for term in quantity.terms]

    def agreement(self, quantity: Quantity, terms: list[Chains]) -> float:
        """The largest R-hat of the terms; nan where none is defined."""
        found = [agreement for agreement, _ in self._of(quantity, terms)]
        return float(np.nanmax(found)) if not np.isnan(found).all() else math.nan

    def crossings(self, quantity: Quantity, terms: list[Chains]) -> int:
        """The smallest number of passages of the terms."""
        return min(crossings for _, crossings in self._of(quantity, terms))


def _slowness(
    estimate: Estimate, agreement: float, terms: list[Chains], crossings: Callable[[list[Chains]], int]
) -> str:
    """The first reason to think that the chains are too slow for the estimate's error, or an empty string."""
    lengths = sizes_of(terms[0])
    if math.isnan(estimate.tau_int) and not estimate.n_eff > 0:
        return "did not move at all, so the error is not known; take a sampler that moves it"
    if agreement > _R_HAT_LIMIT:
        return f"the chains disagree, R-hat > {_R_HAT_LIMIT}, so the error is not known; let them run longer"
    if sum(lengths) < _LENGTH_IN_TAU * estimate.tau_int:
        return f"shorter than {_LENGTH_IN_TAU} tau_int, so the error is not well known; let it run longer"
    if min(lengths) < _CHAIN_LENGTH_IN_TAU * estimate.tau_int:
        return (
            f"chains shorter than {_CHAIN_LENGTH_IN_TAU} tau_int each, which hardly forget their starts; make longer "
            "ones, not more"
        )
    if crossings(terms) < MIN_CHANGES:
        return f"went through its range fewer than {MIN_CHANGES} times, so the error is not known; let it run longer"
    return ""
