"""The tables of a report's page on topology."""

from typing import Any

from lattice_flows.workflows import format
from lattice_flows.workflows.report.tables import PageTable

Summary = dict[str, Any]


def topology_tables(summary: Summary) -> Summary | None:
    """What the ensembles know of the topology, and of each sector."""
    found = {name: e for name, e in summary["ensembles"].items() if e.get("topology")}
    if not found:
        return None
    return {
        "motion": _motion(found),
        "fixed_charge": _fixed_charge(found),
        "sectors": [table for name, e in found.items() if (table := _sectors(name, e["topology"]))],
        "weights": [table for name, e in found.items() if (table := _sector_weights(name, e["topology"]))],
    }


def _motion(found: Summary) -> PageTable:
    headings = ("ensemble", "tunnelling per configuration", "χ_top", "b₂", "τ_int(Q²)", "n_eff(Q²)", "R-hat(Q²)")
    rows = []
    for name, ensemble in found.items():
        known = ensemble["observables"]
        rate = ensemble["topology"].get("tunnelling_rate") or {"value": None, "error": None}
        squared = known.get("topological_charge_squared", {})
        rows.append(
            (
                name,
                format.with_error(rate["value"], rate["error"] or None),
                _estimate(known.get("topological_susceptibility")),
                _estimate(known.get("topological_b2")),
                format.with_error(squared.get("tau_int"), squared.get("tau_int_error")),
                format.number(squared.get("n_eff")),
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
            rows.append(
                (
                    name,
                    format.label(observable).page,
                    format.with_error(fit["value"], fit["error"]),
                    _estimate(plain),
                    format.number(plain["exact"] if plain else None, 6),
                    format.with_error(fit["slope"], fit["slope_error"]),
                    format.number(fit["chi2_per_dof"], 2),
                )
            )
    headings = ("ensemble", "observable", "from fixed charge", "plain average", "exact", "slope in Q²", "χ²/dof")
    return PageTable("From fixed charge to the average", headings, rows) if rows else None


def _sectors(name: str, found: Summary) -> PageTable | None:
    """One row per charge."""
    sectors = found.get("sectors") or []
    if not sectors:
        return None
    shown = list(dict.fromkeys(key for sector in sectors for key in sector.get("observables", {})))
    headings = ("Q", "P(Q)", "exact", "Gaussian", *(f"{format.label(key).page} at Q" for key in shown))
    rows = [
        (
            _charge(sector["charge"]),
            format.with_error(sector["probability"], sector["probability_error"]),
            format.number(sector.get("exact"), 4),
            format.number(sector.get("gaussian"), 4),
            *(_estimate(sector.get("observables", {}).get(key)) for key in shown),
        )
        for sector in sectors
    ]
    return PageTable(f"{name}: topological sectors", headings, rows)


def _sector_weights(name: str, found: Summary) -> PageTable | None:
    """How the weights are shared between the sectors."""
    rows = [
        (
            _charge(row["charge"]),
            format.number(row["share"], 4),
            format.number(row.get("exact"), 4),
            format.number(row["ess"], 3),
        )
        for row in found.get("weights") or []
    ]
    return (
        PageTable(f"{name}: weights per sector", ("Q", "share of the weight", "exact P(Q)", "ESS"), rows)
        if rows
        else None
    )


def _charge(q: int) -> str:
    """With its sign."""
    return f"{q:+d}" if q else "0"


def _estimate(row: Summary | None) -> str:
    """Value(error), or '-'."""
    return "-" if row is None else format.with_error(row["value"], row["error"])


def _r_hat(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
