"""The tables of a report's page on topology."""

from typing import NamedTuple

from lattice_flows.estimates.summary_types import EnsembleSummary, ObservableRow, Summary, Topology, ValueWithError
from lattice_flows.report import terminal_tables
from lattice_flows.report.page_tables import PageTable
from lattice_flows.report.summary_lookups import CHARGE_SQUARED, has_trusted_sectors, label_of
from lattice_flows.terminal import numbers


class TopologyTables(NamedTuple):
    """The tables on topology; sectors and weights have one table for each source that provides them."""

    motion: PageTable
    fixed_charge: PageTable | None
    sectors: list[PageTable]
    weights: list[PageTable]


_Found = dict[str, tuple[EnsembleSummary, Topology]]  # the ensembles that have a topology


def topology_tables(summary: Summary) -> TopologyTables | None:
    """The tables on the topology of all ensembles, and on each of their sectors; None if there is no topology."""
    found = {name: (e, e["topology"]) for name, e in summary["ensembles"].items() if e["topology"] is not None}
    if not found:
        return None
    of_flow = summary["flow"]["topology"] if summary["flow"] else None
    weighted = {} if of_flow is None else {"fresh flow samples": of_flow}
    weighted |= {name: topology for name, (_, topology) in found.items()}
    return TopologyTables(
        motion=_motion(found),
        fixed_charge=_fixed_charge(found),
        sectors=[table for name, (e, topology) in found.items() if (table := _sectors(name, e, topology))],
        weights=[table for name, topology in weighted.items() if (table := _sector_weights(name, topology))],
    )


def _motion(found: _Found) -> PageTable:
    headings = ("ensemble", "tunnelling per configuration", "χ_top", "b₂", "τ_int(Q²)", "n_eff(Q²)", "R-hat(Q²)")
    rows = []
    for name, (ensemble, topology) in found.items():
        known, rate = ensemble["observables"], topology["tunnelling_rate"]
        squared = known.get(CHARGE_SQUARED)
        rows.append(
            (
                name,
                _marked(numbers.with_error(rate["value"], rate["error"] or None), topology["trusted"]),
                _estimate(known.get("topological_susceptibility")),
                _estimate(known.get("topological_b2")),
                numbers.with_error(squared["tau_int"], squared["tau_int_error"]) if squared else "-",
                numbers.number(squared["n_eff"]) if squared else "-",
                _r_hat(squared["r_hat"]) if squared else "-",
            )
        )
    return PageTable("Motion and moments of the topological charge", headings, rows)


def _fixed_charge(found: _Found) -> PageTable | None:
    """The averages from fixed charge beside the plain ones; one row per ensemble and observable."""
    rows = []
    for name, (ensemble, topology) in found.items():
        for observable, fit in topology["fixed_charge"].items():
            plain = ensemble["observables"].get(observable)
            trusted = has_trusted_sectors(ensemble, observable) and fit["linear"]
            rows.append(
                (
                    name,
                    label_of(ensemble["observables"], observable).page,
                    _marked(numbers.with_error(fit["value"], fit["error"]), trusted),
                    _estimate(plain),
                    numbers.number(plain["exact"] if plain else None, 6),
                    _marked(numbers.with_error(fit["slope"], fit["slope_error"]), trusted),
                    _marked(numbers.number(fit["chi2_per_dof"], 2), fit["linear"]),
                    "closed form" if fit["charge_squared"] == "exact" else "ensemble",
                )
            )
    headings = (
        "ensemble",
        "observable",
        "from fixed charge",
        "plain average",
        "exact",
        "slope in Q²",
        "χ²/dof",
        "⟨Q²⟩ from",
    )
    return PageTable("From fixed charge to the average", headings, rows) if rows else None


def _sectors(name: str, ensemble: EnsembleSummary, found: Topology) -> PageTable | None:
    """The sectors of an ensemble, one row per charge."""
    sectors = found["sectors"]
    if not sectors:
        return None
    shown = list(dict.fromkeys(key for sector in sectors for key in sector["observables"]))
    headings = (
        "Q",
        "P(Q)",
        "exact",
        "Gaussian",
        *(f"{label_of(ensemble['observables'], key).page} at Q" for key in shown),
    )
    rows = [
        (
            _charge(sector["charge"]),
            _marked(numbers.with_error(sector["probability"], sector["probability_error"]), found["trusted"]),
            numbers.number(sector["exact"], 4),
            numbers.number(sector["gaussian"], 4),
            *(_mean(ensemble, key, sector["observables"].get(key)) for key in shown),
        )
        for sector in sectors
    ]
    return PageTable(f"{name}: topological sectors", headings, rows)


def _sector_weights(name: str, found: Topology) -> PageTable | None:
    """The share of the weights in each sector."""
    rows = [
        (
            _charge(row["charge"]),
            _marked(numbers.with_error(row["share"], row["share_error"]), found["trusted"]),
            numbers.number(row["exact"], 4),
            terminal_tables.part_ess(row),
        )
        for row in found["weights"] or []
    ]
    return (
        PageTable(f"{name}: weights per sector", ("Q", "share of the weight", "exact P(Q)", "ESS within"), rows)
        if rows
        else None
    )


def _charge(q: int) -> str:
    """The charge with its sign."""
    return f"{q:+d}" if q else "0"


def _estimate(row: ObservableRow | None) -> str:
    """Value(error) of an observable, or '-'."""
    return "-" if row is None else _marked(numbers.with_error(row["value"], row["error"]), row["trusted"])


def _mean(ensemble: EnsembleSummary, observable: str, mean: ValueWithError | None) -> str:
    """Value(error) of an observable in a sector, or '-'."""
    if mean is None:
        return "-"
    return _marked(numbers.with_error(mean["value"], mean["error"]), has_trusted_sectors(ensemble, observable))


def _marked(cell: str, trusted: bool) -> str:
    """The cell, followed by '!' if it cannot be trusted."""
    return cell if trusted or cell == "-" else f"{cell} !"


def _r_hat(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
