"""The tables and lines that an analysis prints in the terminal."""

import math
from collections.abc import Iterable, Mapping

from rich import box
from rich.table import Table

from lattice_flows.card.build import closed_forms_of
from lattice_flows.estimates.summary_types import (
    EnsembleSummary,
    FlowSummary,
    ForwardESS,
    Observables,
    PartESS,
    Reweighting,
    Summary,
    Weights,
)
from lattice_flows.report.costs import Cost, Winner, winners
from lattice_flows.report.summary_lookups import label_of
from lattice_flows.samplers import SAMPLERS
from lattice_flows.terminal import numbers
from lattice_flows.theories.observable import Label, named

Ensembles = Mapping[str, EnsembleSummary]

_MOST_NAMED = 8  # files of one ensemble
_WORDS, _ENDINGS = {2: "second", 3: "third"}, {1: "st", 2: "nd", 3: "rd"}


def milliseconds_per_config(ensemble: EnsembleSummary) -> str:
    """Core time per independent configuration in ms, '> x' if the ensemble is frozen."""
    if ensemble["frozen"]:
        bound = ensemble["seconds_per_independent_config_at_least"]
        return "-" if bound is None else f"> {numbers.number(1000.0 * bound)}"
    seconds = ensemble["seconds_per_independent_config"]
    return "-" if seconds is None else numbers.number(1000.0 * seconds)


def cheapest_first(ensembles: Ensembles) -> list[tuple[str, EnsembleSummary]]:
    """The ensembles sorted by cost: those with a value, then those with only a bound, then those with neither."""

    def cost(entry: tuple[str, EnsembleSummary]) -> tuple[int, float]:
        ensemble = entry[1]
        if ensemble["frozen"]:
            return 1, ensemble["seconds_per_independent_config_at_least"] or 0.0
        value = ensemble["seconds_per_independent_config"]
        return (2, 0.0) if value is None else (0, value)

    return sorted(ensembles.items(), key=cost)


def observables_table(ensembles: Ensembles) -> Table:
    """The table of estimates, one row per ensemble and observable."""
    headings = ("observable", "value", "exact", "pull", "tau_int", "n_eff", "R-hat")
    table = titled("Observables", ("ensemble", *headings), n_names=2)
    for name, ensemble in ensembles.items():
        for row in observable_rows(ensemble["observables"]):
            table.add_row(name, *row)
        table.add_section()
    if any(not row["trusted"] for ensemble in ensembles.values() for row in ensemble["observables"].values()):
        table.caption = "! this error cannot be trusted; see the warnings"
        table.caption_justify = "left"
    return table


def observable_rows(observables: Observables) -> Iterable[tuple[str, ...]]:
    """Observable, value(error), exact, pull, tau_int(error), n_eff, R-hat; '!' if the error cannot be trusted."""
    for observable, row in observables.items():
        yield (
            label_of(observables, observable).plain,
            numbers.with_error(row["value"], row["error"]) + ("" if row["trusted"] else " !"),
            numbers.number(row["exact"], 6),
            numbers.pull(row["pull"]),
            numbers.with_error(row["tau_int"], row["tau_int_error"]),
            numbers.number(row["n_eff"]),
            "-" if row["r_hat"] is None else f"{row['r_hat']:.3f}",
        )


def samplers_table(ensembles: Ensembles) -> Table:
    """The table of costs, one row per ensemble, the cheapest first."""
    tau_int = f"tau_int({cost_label(ensembles).plain})"
    pays = any("break_even" in ensemble for ensemble in ensembles.values())
    headings = ("sampler", "chains x\nconfigs", "accep-\ntance", tau_int, "seconds", "ms / indep.\nconfig")
    table = titled("Samplers", ("ensemble", *headings, *(("training\npays after",) if pays else ())), n_names=2)
    for name, ensemble in cheapest_first(ensembles):
        table.add_row(name, *sampler_row(ensemble), *((break_even(ensemble),) if pays else ()))
    if not all(_has_trusted_cost(ensemble) for ensemble in ensembles.values()):
        table.caption = "! counted by an error that cannot be trusted"
        table.caption_justify = "left"
    return table


def winners_table(ensembles: Ensembles) -> Table | None:
    """The table of the cheapest ensemble for each observable; None where there is nothing to choose from."""
    found = winners(ensembles)
    if not found:
        return None
    headings = ("cheapest", "ms / indep.\nconfig", "next", "ms / indep.\nconfig", "times\nas much")
    table = titled("Cheapest by observable", ("observable", *headings), n_names=1)
    for winner in found:
        table.add_row(winner.label.plain, *winner_row(winner))
    if any(winner.next_cost and winner.ratio is None for winner in found):
        table.caption = "= their errors do not tell these costs apart"
        table.caption_justify = "left"
    return table


def winner_row(winner: Winner) -> tuple[str, ...]:
    """The cheapest ensemble and its cost in ms, those of the next one, and the ratio; "=" if it is within errors."""
    if winner.next_name is None or winner.next_cost is None:
        return winner.name, milliseconds(winner.cost), "-", "-", "-"
    ratio = "=" if winner.ratio is None else numbers.number(winner.ratio, 2)
    return winner.name, milliseconds(winner.cost), winner.next_name, milliseconds(winner.next_cost), ratio


def milliseconds(cost: Cost) -> str:
    """A cost with its error, in ms."""
    return numbers.with_error(1000.0 * cost.seconds, 1000.0 * cost.error)


def cost_label(ensembles: Ensembles) -> Label:
    """The label of the observable by which independent configurations are counted; "slowest" if ensembles differ."""
    counted = [(name, entry["observables"]) for entry in ensembles.values() if (name := entry["cost_observable"])]
    if len({name for name, _ in counted}) != 1:
        return named("slowest")
    name, observables = counted[0]
    return label_of(observables, name)


def sampler_row(ensemble: EnsembleSummary) -> tuple[str, ...]:
    """Sampler, size, acceptance, tau_int of the cost's observable, seconds, milliseconds per independent configuration.

    '!' if the error by which independent configurations are counted cannot be trusted.
    """
    name, rows = ensemble["cost_observable"], ensemble["observables"]
    tau_int = numbers.with_error(rows[name]["tau_int"], rows[name]["tau_int_error"]) if name in rows else "-"
    return (
        ensemble["sampler"],
        f"{ensemble['n_chains']} x {_length(ensemble)}",
        numbers.number(ensemble["acceptance_rate"]),
        "frozen" if ensemble["frozen"] else tau_int,
        numbers.number(ensemble["seconds"]),
        milliseconds_per_config(ensemble) + ("" if _has_trusted_cost(ensemble) else " !"),
    )


def break_even(ensemble: EnsembleSummary) -> str:
    """After how many independent configurations the training is cheaper than the best sampler without a flow."""
    if (found := ensemble.get("break_even")) is None:
        return "-"
    if found["configs"] is None:
        return "never" if not found["at_most"] else "-"
    return f"{'< ' if found['at_most'] else ''}{numbers.number(found['configs'], 2)}"


def _has_trusted_cost(ensemble: EnsembleSummary) -> bool:
    """Whether the cost is a bound, or counted by an error that can be trusted."""
    name, rows = ensemble["cost_observable"], ensemble["observables"]
    return ensemble["frozen"] or name not in rows or rows[name]["trusted"]


def _length(ensemble: EnsembleSummary) -> str:
    """The number of configurations per chain, or its range over the chains."""
    shortest, longest = ensemble["n_configs"], ensemble["n_configs_of_longest"]
    return str(shortest) if shortest == longest else f"{shortest}..{longest}"


def ess_of(figures: Weights | Reweighting) -> str:
    """The ESS with its error; without one where the tail of the weights is too heavy: "at most 0.43"."""
    return numbers.ess(figures["ess"], figures["ess_error"], figures["n_samples"], figures["ess_reliable"])


def log_z_of(figures: Weights) -> str:
    """log Z with its error; without one where the tail of the weights is too heavy: "at least 12.4"."""
    if not figures["log_z_reliable"]:
        return f"at least {numbers.number(figures['log_z'], 4)}"
    return numbers.with_error(figures["log_z"], figures["log_z_error"])


def forward_ess(figures: ForwardESS) -> str:
    """The forward ESS with its error."""
    return numbers.ess(figures["ess"], figures["ess_error"], figures["n_samples"])


def part_ess(part: PartESS) -> str:
    """The ESS of a part of the configurations, with its error."""
    return numbers.ess(part["ess"], part["ess_error"], part["n_configs"])


def pareto_k(figures: Weights | Reweighting) -> str:
    """k-hat; if there is none, which is null in summary.json, "none" or "unknown"."""
    k = figures["pareto_k"]
    if k is None or math.isinf(k):
        return "none" if figures["log_z_reliable"] else "unknown"
    return f"{k:z.2f}"


def tail(figures: Weights) -> str:
    """The largest weight and Pareto k-hat, in half a line."""
    share = numbers.number(100.0 * figures["largest_weight_share"], 2)
    over_mean = numbers.number(figures["largest_weight_over_mean"], 2)
    return f"largest weight {over_mean} x mean ({share} % of the sum), Pareto k-hat {pareto_k(figures)}"


def training_cost(flow: FlowSummary) -> str:
    """The number of parameters and the training time, in half a line."""
    if not flow["n_parameters"]:
        return "no parameters, so nothing to train"
    n = flow["train_processes"]
    steps = f"{flow['n_steps']} steps{f' with {n} processes' if n > 1 else ''}"
    return f"{flow['n_parameters']} parameters, {numbers.number(flow['train_seconds'], 2)} s of training ({steps})"


def step_error(flow: FlowSummary) -> str:
    """By how much the steps of a flow that is integrated put log w off, in half a line; nothing of any other one."""
    if (found := flow.get("integration")) is None:
        return ""
    return f"integrated in {found['n_steps']} steps, log w good to {numbers.number(found['step_error'], 2)}"


def flow_line(flow: FlowSummary) -> str:
    """The flow's quality in two lines: figures of its weights, then their estimate of log Z and the training's cost."""
    exact = "" if flow["log_z_exact"] is None else f" (exact {flow['log_z_exact']:.4f})"
    unreliable = "" if flow["log_z_reliable"] else "; UNRELIABLE"
    steps = f"; {text}" if (text := step_error(flow)) else ""
    return (
        f"flow: ESS {ess_of(flow)} of {flow['n_samples']} samples{steps}; {tail(flow)}{unreliable}\n"
        f"      log Z {log_z_of(flow)}{exact}; {training_cost(flow)}"
    )


def weight_lines(summary: Summary) -> list[str]:
    """A line for every ensemble of weighted samples: the quality of all weights, and log Z beside its closed form."""
    weighted = {
        name: figures
        for name, entry in summary["ensembles"].items()
        if (figures := entry.get("proposals")) and entry["sampler"] in SAMPLERS and SAMPLERS[entry["sampler"]].weighted
    }
    units = {
        name: "populations" if SAMPLERS[summary["ensembles"][name]["sampler"]].populations else "samples"
        for name in weighted
    }
    oracle = closed_forms_of(summary["theory"]) if weighted else None
    exact = "" if oracle is None or oracle.log_z is None else f" (exact {numbers.number(oracle.log_z, 8)})"
    return [
        f"{name}: log Z {log_z_of(figures)}{exact}; ESS {ess_of(figures)} of {figures['n_samples']} "
        f"{units[name]}; {tail(figures)}"
        for name, figures in weighted.items()
    ]


def selections(summary: Summary) -> list[str]:
    """A line for every ensemble that was not analysed whole and as it was sampled: the part analysed, reweighting."""
    lines = []
    for name, ensemble in summary["ensembles"].items():
        dropped, every, weights = ensemble["thermalisation_dropped"], ensemble["every"], ensemble.get("reweighting")
        parts = [f"the first {dropped} configurations of each chain dropped"] if dropped else []
        parts += [f"every {_ordinal(every)} configuration kept (the cost is that of all)"] if every > 1 else []
        if weights:
            own, target = weights["from"], summary["theory"]
            changes = [f"{key} = {own[key]} to {target[key]}" for key in own if own[key] != target[key]]
            parts.append(
                f"reweighted from {', '.join(changes)}, ESS {ess_of(weights)}, Pareto k-hat {pareto_k(weights)}"
            )
        if parts:
            lines.append(f"{name}: {'; '.join(parts)}")
    return lines


def merged(summary: Summary) -> list[str]:
    """A line for every ensemble that is read from several files: how many, and which."""
    lines = []
    for name, ensemble in summary["ensembles"].items():
        if len(files := ensemble["files"]) > 1:
            few = len(files) <= _MOST_NAMED
            named = ", ".join(files if few else [*files[: _MOST_NAMED - 1], "...", files[-1]])
            lines.append(f"{name}: {len(files)} files, their chains together: {named}")
    return lines


def _ordinal(n: int) -> str:
    """Second, third, 4th, 21st."""
    if n in _WORDS:
        return _WORDS[n]
    return f"{n}{'th' if n % 100 in (11, 12, 13) else _ENDINGS.get(n % 10, 'th')}"


def warnings(summary: Summary) -> list[str]:
    """All warnings, each prefixed with the ensemble concerned."""
    found = [f"trained flow: {text}" for text in (summary["flow"]["warnings"] if summary["flow"] else [])]
    return found + [f"{name}: {text}" for name, ens in summary["ensembles"].items() for text in ens["warnings"]]


def titled(title: str, headings: tuple[str, ...], n_names: int) -> Table:
    """An empty table with columns of names, which fold if room is short, then of numbers, which never do."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for column, heading in enumerate(headings):
        if column < n_names:
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="right", no_wrap="\n" not in heading, overflow="fold")
    return table
