"""The tables of a report's page on the flow: its weights, and its test against ensembles."""

from collections.abc import Mapping
from typing import NamedTuple

from lattice_flows.estimates.summary_types import FlowSummary, Summary, Weights
from lattice_flows.report import terminal_tables
from lattice_flows.report.page_tables import PageTable, observables
from lattice_flows.terminal import numbers


class FlowTables(NamedTuple):
    """The facts and tables on the flow. unreliable: the names of the sources whose weights are unreliable."""

    facts: str
    unreliable: str
    weights: PageTable
    forward: PageTable | None
    signs: PageTable | None
    observables: PageTable


def flow_tables(summary: Summary) -> FlowTables | None:
    """The tables on the flow's quality, from fresh samples, proposals of chains and ensembles; None without a flow."""
    trained = summary["flow"]
    if trained is None:
        return None
    proposals = {name: e["proposals"] for name, e in summary["ensembles"].items() if "proposals" in e}
    of_chains = {f"proposals of {name}": figures for name, figures in proposals.items()}
    sources: dict[str, Weights] = {"fresh samples": trained, **of_chains}
    return FlowTables(
        facts=_facts(trained),
        unreliable=", ".join(name for name, figures in sources.items() if not figures["log_z_reliable"]),
        weights=_weights(sources, numbers.number(trained["log_z_exact"], 8)),
        forward=_mode_collapse(trained),
        signs=_signs(summary),
        observables=observables("Fresh samples, reweighted", trained["observables"]),
    )


def _facts(trained: FlowSummary) -> str:
    cost, error = terminal_tables.training_cost(trained).capitalize(), trained["round_trip"]
    facts = f"{cost}." if error is None else f"{cost}. Map and inverse agree in log q to {numbers.number(error, 2)}."
    steps = terminal_tables.step_error(trained)
    return f"{facts} {steps.capitalize()}." if steps else facts


def _weights(sources: Mapping[str, Weights], exact: str) -> PageTable:
    headings = (
        "weights of", "samples", "ESS", "largest weight", "its share", "k-hat", "log Z", "exact log Z", "verdict"
    )  # fmt: skip
    rows = [
        (
            name,
            str(figures["n_samples"]),
            terminal_tables.ess_of(figures),
            f"{numbers.number(figures['largest_weight_over_mean'], 2)} × mean",
            f"{numbers.number(100.0 * figures['largest_weight_share'], 2)} %",
            terminal_tables.pareto_k(figures),
            terminal_tables.log_z_of(figures),
            exact,
            _verdict(figures),
        )
        for name, figures in sources.items()
    ]
    return PageTable("Weights", headings, rows)


def _verdict(figures: Weights) -> str:
    if not figures["log_z_reliable"]:
        return "unreliable"
    if figures["dominated"]:
        return "one weight dominates"
    return "reliable" if figures["ess_reliable"] else "reliable, but for the ESS"


def _mode_collapse(trained: FlowSummary) -> PageTable | None:
    """The reverse ESS, from the flow's own samples, and the forward ESS, from ensembles sampled without it."""
    forward = trained.get("forward", {})
    rows = [
        (
            name,
            str(figures["n_samples"]),
            terminal_tables.forward_ess(figures),
            terminal_tables.ess_of(trained),
            figures["verdict"],
        )
        for name, figures in forward.items()
    ]
    headings = ("target samples of", "samples", "forward ESS", "reverse ESS", "verdict")
    return PageTable("Mode-collapse test", headings, rows) if rows else None


def _signs(summary: Summary) -> PageTable | None:
    """The share of the weights at M > 0 and M < 0, for every source that has weights."""
    of_flow = summary["flow"]["signs"] if summary["flow"] else None
    sources = {"fresh flow samples": of_flow, **{name: e["signs"] for name, e in summary["ensembles"].items()}}
    rows = [
        (
            name,
            "M > 0" if row["sign"] > 0 else "M < 0",
            str(row["n_configs"]),
            numbers.with_error(row["share"], row["share_error"]),
            numbers.number(row["exact"], 2),
            terminal_tables.part_ess(row),
        )
        for name, signs in sources.items()
        for row in signs or []
    ]
    headings = ("weights of", "sign", "samples", "share of the weight", "by symmetry", "ESS within")
    return PageTable("Weights by the sign of the magnetisation", headings, rows) if rows else None
