"""The tables of a report's page on topology."""

from typing import Any

from lattice_flows.report import terminal_tables
from lattice_flows.report.page_tables import PageTable
from lattice_flows.terminal import labels, numbers

Summary = dict[str, Any]


def topology_tables(summary: Summary) -> Summary | None:
    """What the ensembles know of the topology, and of each sector."""
    found = {name: e for name, e in summary["ensembles"].items() if e.get("topology")}
    if not found:
        return None
    flow = summary.get("flow") or {}
    weighted = ({"fresh flow samples": flow} if flow.get("topology") else {}) | found
    return {
        "motion": _motion(found),
        "fixed_charge": _fixed_charge(found),
        "sectors": [table for name, e in found.items() if (table := _sectors(name, e))],
        "weights": [table for name, e in weighted.items() if (table := _sector_weights(name, e["topology"]))],
    }


def _motion(found: Summary) -> PageTable:
    headings = ("ensemble", "tunnelling per configuration", "χ_top", "b₂", "τ_int(Q²)", "n_eff(Q²)", "R-hat(Q²)")
    rows = []
    for name, ensemble in found.items():
        known = ensemble["observables"]
        rate = ensemble["topology"].get("tunnelling_rate") or {"value": None, "error": None}
        trusted = ensemble["topology"].get("trusted", False)
        squared = known.get("topological_charge_squared", {})
        rows.append(
            (
                name,
                _marked(numbers.with_error(rate["value"], rate["error"] or None), trusted),
                _estimate(known.get("topological_susceptibility")),
                _estimate(known.get("topological_b2")),
                numbers.with_error(squared.get("tau_int"), squared.get("tau_int_error")),
                numbers.number(squared.get("n_eff")),
                _r_hat(squared.get("r_hat")),
            )
        )
    return PageTable("Motion and moments of the topological charge", headings, rows)


def _fixed_charge(found: Summary) -> PageTable | None:
    """What the sectors extrapolate to, beside the plain average; one row per ensemble and observable."""
    rows = []
    for name, ensemble in found.items():
        for observable, fit in (ensemble["topology"].get("fixed_charge") or {}).items():
            plain = ensemble["observables"].get(observable)
            trusted = _is_trusted(ensemble, observable)
            rows.append(
                (
                    name,
                    labels.label(observable).page,
                    _marked(numbers.with_error(fit["value"], fit["error"]), trusted),
                    _estimate(plain),
                    numbers.number(plain["exact"] if plain else None, 6),
                    _marked(numbers.with_error(fit["slope"], fit["slope_error"]), trusted),
                    numbers.number(fit["chi2_per_dof"], 2),
                    "closed form" if fit.get("charge_squared") == "exact" else "ensemble",
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


def _sectors(name: str, ensemble: Summary) -> PageTable | None:
    """One row per charge."""
    found = ensemble["topology"]
    sectors = found.get("sectors") or []
    if not sectors:
        return None
    shown = list(dict.fromkeys(key for sector in sectors for key in sector.get("observables", {})))
    headings = ("Q", "P(Q)", "exact", "Gaussian", *(f"{labels.label(key).page} at Q" for key in shown))
    rows = [
        (
            _charge(sector["charge"]),
            _marked(
                numbers.with_error(sector["probability"], sector["probability_error"]), found.get("trusted", False)
            ),
            numbers.number(sector.get("exact"), 4),
            numbers.number(sector.get("gaussian"), 4),
            *(_mean(ensemble, key, sector.get("observables", {}).get(key)) for key in shown),
        )
        for sector in sectors
    ]
    return PageTable(f"{name}: topological sectors", headings, rows)


def _sector_weights(name: str, found: Summary) -> PageTable | None:
    """How the weights are shared between the sectors."""
    rows = [
        (
            _charge(row["charge"]),
            _marked(numbers.with_error(row["share"], row.get("share_error")), found.get("trusted", False)),
            numbers.number(row.get("exact"), 4),
            terminal_tables.part_ess(row),
        )
        for row in found.get("weights") or []
    ]
    return (
        PageTable(f"{name}: weights per sector", ("Q", "share of the weight", "exact P(Q)", "ESS within"), rows)
        if rows
        else None
    )


def _charge(q: int) -> str:
    """With its sign."""
    return f"{q:+d}" if q else "0"


def _estimate(row: Summary | None) -> str:
    """Value(error) of an observable, or '-'."""
    return "-" if row is None else _marked(numbers.with_error(row["value"], row["error"]), row["trusted"])


def _mean(ensemble: Summary, observable: str, mean: Summary | None) -> str:
    """Value(error) of an observable in a sector, or '-'."""
    if mean is None:
        return "-"
    return _marked(numbers.with_error(mean["value"], mean["error"]), _is_trusted(ensemble, observable))


def _is_trusted(ensemble: Summary, observable: str) -> bool:
    """Whether the errors of this observable by sector mean what they say: if its own and that of <Q^2> do."""
    row = ensemble["observables"].get(observable, {})
    return ensemble["topology"].get("trusted", False) and row.get("trusted", False)


def _marked(cell: str, trusted: bool) -> str:
    """With '!' behind it where it is not to be trusted."""
    return cell if trusted or cell == "-" else f"{cell} !"


def _r_hat(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
