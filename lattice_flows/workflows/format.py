"""Numbers and tables for people."""

import math
from collections.abc import Iterable
from typing import Any

from rich.table import Table

Summary = dict[str, Any]


def with_error(value: float | None, error: float | None) -> str:
    """0.69778(12): the value to two digits of its error; plain where there is no error."""
    if value is None:
        return "-"
    if not error:
        return f"{value:.6g}"
    exponent = math.floor(math.log10(error)) - 1  # of the last digit shown
    if round(error / 10.0**exponent) == 100:
        exponent += 1
    decimals = max(0, -exponent)
    if exponent <= 0:
        digits = round(error / 10.0**exponent)
        shown = f"{digits}" if decimals == 0 or error < 1 else f"{error:.{decimals}f}"
        return f"{value:.{decimals}f}({shown})"
    return f"{value:.0f}({error:.0f})"


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits, '-' where there is none."""
    return "-" if value is None else f"{value:.{digits}g}"


def seconds_per_config(ensemble: Summary) -> str:
    """Core seconds per independent configuration of Q^2, '> x' where the ensemble is frozen."""
    if ensemble["frozen"]:
        return f"> {number(ensemble['seconds_per_independent_config_at_least'])}"
    return number(ensemble["seconds_per_independent_config"])


def observables_table(ensembles: Summary) -> Table:
    """One row per ensemble and observable."""
    table = Table(title="Observables", title_justify="left")
    for heading in ("ensemble", "observable", "value", "exact", "pull", "tau_int", "n_eff", "R-hat"):
        table.add_column(heading, justify="left" if heading in ("ensemble", "observable") else "right")
    for name, ensemble in ensembles.items():
        for row in observable_rows(ensemble):
            table.add_row(name, *row)
        table.add_section()
    return table


def observable_rows(figures: Summary) -> Iterable[tuple[str, ...]]:
    """Observable, value(error), exact, pull, tau_int(error), n_eff, R-hat."""
    for observable, row in figures["observables"].items():
        yield (
            observable,
            with_error(row["value"], row["error"]),
            number(row["exact"], 6),
            "-" if row["pull"] is None else f"{row['pull']:+.1f}",
            with_error(row["tau_int"], row["tau_int_error"]),
            number(row["n_eff"], 4),
            "-" if row["r_hat"] is None else f"{row['r_hat']:.3f}",
        )


def samplers_table(ensembles: Summary) -> Table:
    """One row per ensemble: what it cost."""
    table = Table(title="Samplers", title_justify="left")
    for heading in ("ensemble", "sampler", "chains x configs", "acceptance", "tau_int(Q^2)", "seconds", "s / indep. config"):
        table.add_column(heading, justify="left" if heading in ("ensemble", "sampler") else "right")
    for name, ensemble in ensembles.items():
        table.add_row(name, *sampler_row(ensemble))
    return table


def sampler_row(ensemble: Summary) -> tuple[str, ...]:
    """Sampler, size, acceptance, tau_int(Q^2), seconds, seconds per independent configuration."""
    charge = ensemble["observables"].get("topological_charge_squared", {"tau_int": None, "tau_int_error": None})
    return (
        ensemble["sampler"],
        f"{ensemble['n_chains']} x {ensemble['n_configs']}",
        number(ensemble["acceptance_rate"]),
        "frozen" if ensemble["frozen"] else with_error(charge["tau_int"], charge["tau_int_error"]),
        number(ensemble["seconds"]),
        seconds_per_config(ensemble),
    )


def flow_line(flow: Summary) -> str:
    """The flow's quality in one line."""
    exact = "" if flow["log_z_exact"] is None else f" (exact {flow['log_z_exact']:.4f})"
    return (
        f"flow: ESS {with_error(flow['ess'], flow['ess_error'])}, log Z {with_error(flow['log_z'], flow['log_z_error'])}"
        f"{exact}, Pareto k-hat {number(flow['pareto_k'], 2)}, {flow['n_samples']} fresh samples, "
        f"{flow['train_seconds']:.0f} s of training, {flow['n_parameters']} parameters"
    )


def warnings(summary: Summary) -> list[str]:
    """All warnings, each with the ensemble it is about."""
    found = [f"flow: {text}" for text in (summary["flow"] or {"warnings": []})["warnings"]]
    return found + [f"{name}: {text}" for name, ens in summary["ensembles"].items() for text in ens["warnings"]]
