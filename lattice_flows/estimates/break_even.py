"""When the training of a flow has paid: against the cheapest sampler that needs none."""

from collections.abc import Mapping

from lattice_flows.card.samplers import needs_flow
from lattice_flows.estimates.summary_types import BreakEven, EnsembleSummary, FlowSummary


def break_evens(ensembles: Mapping[str, EnsembleSummary], flow: FlowSummary) -> dict[str, BreakEven]:
    """The break-even of each ensemble that needs the flow and knows its cost; none where no other one knows its own.

    With a cost c of an independent configuration, and a training of T core seconds, n configurations of the flow's
    ensemble are cheaper than those of the other where T + n c < n c_other. The cost of a frozen ensemble is a bound
    from below, and so n is one from above.
    """
    with_flow = {name: needs_flow(one["sampler"], one["settings"]) for name, one in ensembles.items()}
    others = {name: cost for name, one in ensembles.items() if not with_flow[name] and (cost := _cost(one))}
    if not others:
        return {}
    against = min(others, key=others.__getitem__)
    training = flow["train_seconds"] * flow["train_processes"]
    found: dict[str, BreakEven] = {}
    for name, one in ensembles.items():
        if with_flow[name] and (cost := one["seconds_per_independent_config"]):
            gain = others[against] - cost
            found[name] = {
                "against": against,
                "configs": training / gain if gain > 0 else None,
                "at_most": ensembles[against]["frozen"],
            }
    return found


def _cost(ensemble: EnsembleSummary) -> float | None:
    """Core seconds of an independent configuration, or the bound of a frozen ensemble."""
    if ensemble["frozen"]:
        return ensemble["seconds_per_independent_config_at_least"]
    return ensemble["seconds_per_independent_config"]
