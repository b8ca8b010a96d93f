"""Pilot chains, which determine the sampler's arguments that a card leaves open."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from lattice_flows.card.card import Card, EnsembleTable
from lattice_flows.errors import InputError
from lattice_flows.flows import Proposer
from lattice_flows.kernels.random import make_streams
from lattice_flows.production.start import start_configurations
from lattice_flows.samplers import Sampler
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.terminal.progress import meter

_PILOT_CHAINS = 8
_PILOT_UPDATES = 64


def tuned(
    card: Card,
    table: EnsembleTable,
    identity: str,
    sampler: Sampler,
    flow: Proposer | None,
    stop: StopRequest,
    console: Console,
) -> Sampler:
    """The sampler with the arguments that the card leaves open determined by pilot chains.

    The pilots are thermalising chains with random streams of their own, which do not depend on how the ensemble's
    chains are grouped into jobs.
    """
    if sampler.tuned:
        return sampler
    streams = make_streams(card.seed, f"tuning of {identity}", range(_PILOT_CHAINS))
    x, streams = start_configurations(card.theory, table.start, streams, flow)
    n_updates = max(table.n_thermalisation, _PILOT_UPDATES)
    with meter(console, table.name, n_pilot := 4 * n_updates, "pilot updates") as progress:
        done = 0

        def report(text: str) -> None:
            nonlocal done
            done += 1
            progress.update(min(done, n_pilot - 1), text)
            stop.raise_if_set()

        sampler = sampler.tune(sampler.init(x, streams), n_updates, report)
        if not isinstance(sampler, Sampler):
            raise ValueError(f"tune() of {table.sampler!r} must return a sampler, got a {type(sampler).__name__}")
        progress.line(f"tuned: {_settings_line(sampler.findings())}")
    return sampler


def with_findings(sampler: Sampler, path: Path, settings: dict[str, Any]) -> Sampler:
    """The sampler as it was tuned when the file was begun. Raises InputError for a file of another sampler."""
    if sampler.tuned:
        return sampler
    try:
        return sampler.with_findings(settings)
    except (KeyError, TypeError, IndexError):
        raise InputError(f"{path}: holds chains of another sampler than the card asks for ({settings})") from None


def merged(options: Any, findings: Any) -> Any:
    """The options of a card with the findings of tuning inserted, at any depth."""
    if isinstance(options, Mapping) and isinstance(findings, Mapping):
        return {**options, **{key: merged(options.get(key), value) for key, value in findings.items()}}
    if isinstance(options, (list, tuple)) and isinstance(findings, (list, tuple)) and len(options) == len(findings):
        return [merged(option, found) for option, found in zip(options, findings)]
    return findings


def _settings_line(findings: Any) -> str:
    """The findings in one line, such as width = 1.2."""
    if isinstance(findings, Mapping):
        return ", ".join(f"{key} = {_settings_line(value)}" for key, value in findings.items() if not _empty(value))
    if isinstance(findings, (list, tuple)):
        return f"[{'; '.join(_settings_line(value) for value in findings if not _empty(value))}]"
    return f"{findings:.4g}" if isinstance(findings, float) else str(findings)


def _empty(findings: Any) -> bool:
    """Whether nothing was found, at any depth."""
    inner = findings.values() if isinstance(findings, Mapping) else findings
    return isinstance(findings, (Mapping, list, tuple)) and all(_empty(value) for value in inner)
