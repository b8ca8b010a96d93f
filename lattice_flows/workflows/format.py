"""Numbers and tables for people."""

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

Summary = dict[str, Any]

_SMALL, _LARGE = 1e-4, 1e7  # numbers outside are written with a power of ten
_ENOUGH_FOR_A_BARE_ESS = 1000  # samples
_ROUNDING = 1e-14  # an error below this fraction of its value is rounding


class Label(NamedTuple):
    """How an observable is called in a terminal, on a page and in a figure."""

    plain: str
    page: str
    tex: str


_LABELS = {
    "topological_charge": Label("Q", "Q", r"$Q$"),
    "topological_charge_squared": Label("Q^2", "Q²", r"$Q^2$"),
    "topological_susceptibility": Label("chi_top", "χ_top", r"$\chi_\mathrm{top}$"),
    "topological_b2": Label("b2", "b₂", r"$b_2$"),
    "magnetisation": Label("M", "M", r"$M$"),
    "abs_magnetisation": Label("|M|", "|M|", r"$|M|$"),
    "susceptibility": Label("chi", "χ", r"$\chi$"),
    "connected_susceptibility": Label("chi_c", "χ_c", r"$\chi_\mathrm{c}$"),
    "binder_cumulant": Label("U", "U", r"$U$"),
    "energy": Label("E", "E", r"$E$"),
    "lowest_mode_squared": Label("F", "F", r"$F$"),
    "second_moment_correlation_length": Label("xi", "ξ", r"$\xi$"),
}


# Names with numbers in them, and their labels with these numbers in place of {0}, {1}.
_PATTERNS = {
    r"wilson_loop_(\d+)x(\d+)": Label("W({0}x{1})", "W({0}×{1})", r"$W_{{{0}\times{1}}}$"),
    r"creutz_ratio_(\d+)x(\d+)": Label("Creutz({0}x{1})", "Creutz({0}×{1})", r"$\chi_{{{0}\times{1}}}$"),
    r"polyakov_correlator_(\d+)_(\d+)": Label("P_{0}({1})", "P_{0}({1})", r"$P_{0}({1})$"),
    r"polyakov_loop_(\d)": Label("Re L_{0}", "Re L_{0}", r"$\mathrm{{Re}}\,L_{0}$"),
    r"polyakov_modulus_(\d)": Label("|L_{0}|", "|L_{0}|", r"$|L_{0}|$"),
    r"polyakov_modulus_squared_(\d)": Label("|L_{0}|^2", "|L_{0}|²", r"$|L_{0}|^2$"),
    r"two_point_(\d+)": Label("C({0})", "C({0})", r"$C({0})$"),
    r"effective_mass_(\d+)": Label("m_eff({0})", "m_eff({0})", r"$m_\mathrm{{eff}}({0})$"),
}
_FLOWED = re.compile(r"(.*)_t([0-9.e+-]+)")


def label(observable: str) -> Label:
    """The short names of an observable; its own name where there is none."""
    if observable in _LABELS:
        return _LABELS[observable]
    for pattern, found in _PATTERNS.items():
        if numbers := re.fullmatch(pattern, observable):
            return Label(*(text.format(*numbers.groups()) for text in found))
    if flowed := _FLOWED.fullmatch(observable):
        unflowed, time = label(flowed[1]), flowed[2]
        return Label(f"{unflowed.plain} (t={time})", f"{unflowed.page} (t = {time})", f"{unflowed.tex} ($t = {time}$)")
    return Label(observable, observable, observable.replace("_", " "))


def with_error(value: float | None, error: float | None) -> str:
    """0.69778(12): the value to two digits of its error, 4.5(1.2) with the point in both where the error exceeds one.

    A power of ten stands behind very small and large numbers, 1.234(12)e-07. An error of zero is (0); without an
    error, or with an infinite one, the value stands alone or with (inf), and '-' where there is no value.
    """
    if value is None or error is None or not math.isfinite(value) or math.isnan(error):
        return number(value, 6)
    if math.isinf(error):
        return f"{number(value, 6)}(inf)"
    if error <= _ROUNDING * abs(value):
        return f"{float(f'{value:.6g}')}(0)"
    scale = max(abs(value), error)
    power = _exponent(scale, max(1, _exponent(scale, 1) - _exponent(error, 2) + 2))
    if _SMALL <= 10.0**power < _LARGE:
        return _rounded(Decimal(value), Decimal(error))
    return f"{_rounded(Decimal(value).scaleb(-power), Decimal(error).scaleb(-power))}e{power:+03d}"


def _rounded(value: Decimal, error: Decimal) -> str:
    """Both to the second digit of the error."""
    decimals = 1 - _exponent(error, 2)
    if decimals <= 0:  # the error is 10 or more: its digits stand before the point
        return f"{round(value, decimals):z.0f}({round(error, decimals):.0f})"
    shown = f"{error:.{decimals}f}"
    return f"{value:z.{decimals}f}({shown if decimals == 1 else shown[-2:]})"


def _exponent(x: float | Decimal, digits: int) -> int:
    """The power of ten of x > 0 rounded to so many digits."""
    return int(f"{x:.{digits - 1}e}".split("e")[1])


def number(value: float | None, digits: int = 3) -> str:
    """A number to at least so many significant digits, all of those before the point; '-' where there is none."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value) or value == 0:
        return f"{value:.0f}"
    if not _SMALL <= abs(value) < _LARGE:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - _exponent(abs(value), digits))}f}"


def pull(value: float | None) -> str:
    """+1.3: a difference in units of its error."""
    return "-" if value is None else f"{value:+z.1f}"


def seconds_per_config(ensemble: Summary) -> str:
    """Core seconds per independent configuration of Q^2, '> x' where the ensemble is frozen."""
    if ensemble["frozen"]:
        bound = ensemble["seconds_per_independent_config_at_least"]
        return "-" if bound is None else f"> {number(bound)}"
    return number(ensemble["seconds_per_independent_config"])


def cheapest_first(ensembles: Summary) -> list[tuple[str, Summary]]:
    """Ensembles by their cost: those with a value, those with a bound only, those with neither."""

    def cost(entry: tuple[str, Summary]) -> tuple[int, float]:
        ensemble = entry[1]
        if ensemble["frozen"]:
            return 1, ensemble["seconds_per_independent_config_at_least"] or 0.0
        value = ensemble["seconds_per_independent_config"]
        return (2, 0.0) if value is None else (0, value)

    return sorted(ensembles.items(), key=cost)


def observables_table(ensembles: Summary) -> Table:
    """One row per ensemble and observable."""
    headings = ("observable", "value", "exact", "pull", "tau_int", "n_eff", "R-hat")
    table = _table("Observables", ("ensemble", *headings), n_names=2)
    for name, ensemble in ensembles.items():
        for row in observable_rows(ensemble):
            table.add_row(name, *row)
        table.add_section()
    if any(not row["trusted"] for ensemble in ensembles.values() for row in ensemble["observables"].values()):
        table.caption = "! this error is not to be trusted; see the warnings"
        table.caption_justify = "left"
    return table


def observable_rows(figures: Summary) -> Iterable[tuple[str, ...]]:
    """Observable, value(error), exact, pull, tau_int(error), n_eff, R-hat; '!' where the error is not to be trusted."""
    for observable, row in figures["observables"].items():
        yield (
            label(observable).plain,
            with_error(row["value"], row["error"]) + ("" if row["trusted"] else " !"),
            number(row["exact"], 6),
            pull(row["pull"]),
            with_error(row["tau_int"], row["tau_int_error"]),
            number(row["n_eff"]),
            "-" if row["r_hat"] is None else f"{row['r_hat']:.3f}",
        )


def samplers_table(ensembles: Summary) -> Table:
    """One row per ensemble, the cheapest first: what it cost."""
    tau_int = f"tau_int({cost_label(ensembles).plain})"
    headings = ("sampler", "chains x\nconfigs", "accep-\ntance", tau_int, "seconds", "s / indep.\nconfig")
    table = _table("Samplers", ("ensemble", *headings), n_names=2)
    for name, ensemble in cheapest_first(ensembles):
        table.add_row(name, *sampler_row(ensemble))
    return table


def cost_label(ensembles: Summary) -> Label:
    """What independent configurations are counted by, where all ensembles agree on it."""
    names = {entry["cost_observable"] for entry in ensembles.values()} - {None}
    return label(names.pop()) if len(names) == 1 else Label("slowest", "slowest", "slowest")


def sampler_row(ensemble: Summary) -> tuple[str, ...]:
    """Sampler, size, acceptance, tau_int of what the cost counts, seconds, seconds per independent configuration."""
    slowest = ensemble["observables"].get(ensemble["cost_observable"], {"tau_int": None, "tau_int_error": None})
    return (
        ensemble["sampler"],
        f"{ensemble['n_chains']} x {_length(ensemble)}",
        number(ensemble["acceptance_rate"]),
        "frozen" if ensemble["frozen"] else with_error(slowest["tau_int"], slowest["tau_int_error"]),
        number(ensemble["seconds"]),
        seconds_per_config(ensemble),
    )


def _length(ensemble: Summary) -> str:
    """Configurations per chain, from the shortest to the longest where they differ."""
    shortest, longest = ensemble["n_configs"], ensemble.get("n_configs_of_longest", ensemble["n_configs"])
    return str(shortest) if shortest == longest else f"{shortest}..{longest}"


def ess(figures: Summary) -> str:
    """An ESS with its error, of figures that have "ess", "ess_error" and "n_samples".

    Where the error is not known: the value alone if it is of 1,000 samples or more, else '-'.
    """
    value, error = figures["ess"], figures["ess_error"]
    if value is None or error is None or math.isnan(error):
        return number(value, 2) if figures["n_samples"] >= _ENOUGH_FOR_A_BARE_ESS else "-"
    return with_error(value, error)


def part_ess(part: Summary) -> str:
    """The ESS of a part of the configurations, "n_configs" of them."""
    return ess({**part, "n_samples": part["n_configs"]})


def pareto_k(figures: Summary) -> str:
    """k-hat; in words where there is none, which summary.json has as null."""
    k = figures["pareto_k"]
    if k is None or math.isinf(k):
        return "none" if figures["reliable"] else "unknown"
    return f"{k:.2f}"


def tail(figures: Summary) -> str:
    """What the largest weights say, in half a line."""
    share = number(100.0 * figures["largest_weight_share"], 2)
    over_mean = number(figures["largest_weight_over_mean"], 2)
    return f"largest weight {over_mean} x mean ({share} % of the sum), Pareto k-hat {pareto_k(figures)}"


def training_cost(flow: Summary) -> str:
    """Parameters and seconds, in half a line."""
    if not flow["n_parameters"]:
        return "no parameters, so nothing to train"
    n = flow["train_processes"]
    steps = f"{flow['n_steps']} steps{f' of {n} processes' if n > 1 else ''}"
    return f"{flow['n_parameters']} parameters, {number(flow['train_seconds'], 2)} s of training ({steps})"


def flow_line(flow: Summary) -> str:
    """The flow's quality: what its weights say, then what they estimate and what the training took."""
    exact = "" if flow["log_z_exact"] is None else f" (exact {flow['log_z_exact']:.4f})"
    log_z = with_error(flow["log_z"], flow["log_z_error"])
    unreliable = "" if flow["reliable"] else "; UNRELIABLE"
    return (
        f"flow: ESS {ess(flow)} of {flow['n_samples']} samples; {tail(flow)}{unreliable}\n"
        f"      log Z {log_z}{exact}; {training_cost(flow)}"
    )


def selections(summary: Summary) -> list[str]:
    """What of the ensembles was analysed, where it is not all of it as it was sampled."""
    lines = []
    for name, ensemble in summary["ensembles"].items():
        dropped, every, weights = (ensemble.get(key) for key in ("thermalisation_dropped", "every", "reweighting"))
        parts = [f"the first {dropped} configurations of each chain dropped"] if dropped else []
        parts += [f"one of {every} configurations kept"] if every and every > 1 else []
        if weights:
            own, target = weights["from"], summary["theory"]
            changes = [f"{key} = {own[key]} to {target[key]}" for key in own if own[key] != target[key]]
            parts.append(f"reweighted from {', '.join(changes)}, ESS {ess(weights)}, Pareto k-hat {pareto_k(weights)}")
        if parts:
            lines.append(f"{name}: {'; '.join(parts)}")
    return lines


def warnings(summary: Summary) -> list[str]:
    """All warnings, each with the ensemble it is about."""
    found = [f"trained flow: {text}" for text in (summary["flow"] or {"warnings": []})["warnings"]]
    return found + [f"{name}: {text}" for name, ens in summary["ensembles"].items() for text in ens["warnings"]]


def _table(title: str, headings: tuple[str, ...], n_names: int) -> Table:
    """Columns of names, which fold where room is short, then columns of numbers, which never do."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for column, heading in enumerate(headings):
        if column < n_names:
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="right", no_wrap="\n" not in heading, overflow="fold")
    return table
