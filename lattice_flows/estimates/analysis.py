"""The analysis of a run, or of ensemble files: the summary together with the ensembles it describes."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lattice_flows.card.build import closed_forms_of
from lattice_flows.card.card import Card
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError, nothing_at
from lattice_flows.estimates.break_even import break_evens
from lattice_flows.estimates.grouping import grouped, open_replicas
from lattice_flows.estimates.mode_collapse import forward_summary
from lattice_flows.estimates.of_run import array_warnings, open_run_ensembles
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.estimates.selection import EVERYTHING, Selection
from lattice_flows.estimates.summary import ensemble_summary, flow_samples_summary, plain
from lattice_flows.estimates.summary_types import EnsembleSummary, FlowSummary, Summary
from lattice_flows.production.consistency import check_flow, checksums
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.training import CHECKPOINT_NAME, read_checkpoint


@dataclass(frozen=True)
class Analysis:
    """A summary and the ensembles it was computed from, which stay readable until the analysis is closed.

    groups: the selected part of each ensemble, in the summary's order; samples: the fresh samples of the flow.
    """

    summary: Summary
    groups: tuple[Replicas, ...]
    samples: Replicas | None
    files: ExitStack

    @property
    def sources(self) -> tuple[Replicas, ...]:
        """The ensembles and the fresh samples."""
        return self.groups if self.samples is None else (*self.groups, self.samples)

    @property
    def exact(self) -> Any:
        """The closed forms of the theory to which the averages belong, or None."""
        return closed_forms_of(self.summary["theory"])

    @property
    def sampled(self) -> Any:
        """The closed forms of the theory that was sampled, or None."""
        return closed_forms_of(self.sources[0].sampled_theory)

    def close(self) -> None:
        """Close the files of the ensembles."""
        self.files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def analyse_run(folder: RunFolder, card: Card, selection: Selection = EVERYTHING) -> Analysis:
    """Analyse a run: its flow, and the selected part of each of its ensembles that holds any configurations.

    Raises InputError if there is nothing to analyse, EnsembleError for a broken file.
    """
    with ExitStack() as stack:
        samples = flow = None
        if card.flow is not None and _is_evaluated(folder):
            samples, flow = _flow(folder, card, stack)
        groups = tuple(selection.of(group) for group in open_run_ensembles(folder, card, stack))
        if not groups and flow is None:
            raise InputError(f"{folder.path}: holds no ensembles yet; use run or sample first")
        ensembles = _ensembles(groups)
        for group in groups:
            ensembles[group.name]["warnings"][:0] = array_warnings(group, card.ensemble(group.name))
        theory = groups[0].theory if groups else card.theory.as_dict()
        if flow is not None and theory == card.theory.as_dict():
            of_groups = [(group, ensembles[group.name]) for group in groups]
            flow["forward"], warnings = forward_summary(folder, card, of_groups, flow)
            flow["warnings"] += warnings
            for name, found in break_evens(ensembles, flow).items():
                ensembles[name]["break_even"] = found
        sources = groups if samples is None else (*groups, samples)
        made_from = checksums(folder, card, [file for group in sources for file in group.files])
        summary = plain({"theory": theory, "flow": flow, "ensembles": ensembles, "made_from": made_from})
        return Analysis(summary, groups, samples, stack.pop_all())


def analyse_files(paths: Sequence[Path], selection: Selection = EVERYTHING) -> Analysis:
    """Analyse the selected part of ensemble files of one theory.

    Raises InputError and EnsembleError as `open_replicas` does.
    """
    with ExitStack() as stack:
        groups = selected(paths, selection, stack)
        ensembles = _ensembles(groups)
        summary = plain({"theory": groups[0].theory, "flow": None, "ensembles": ensembles})
        return Analysis(summary, groups, None, stack.pop_all())


def selected(paths: Sequence[Path], selection: Selection, stack: ExitStack) -> tuple[Replicas, ...]:
    """The selected part of the ensembles in these files, which `stack` closes; raises as `analyse_files`."""
    return tuple(selection.of(group) for group in grouped([_begun(path, stack) for path in paths]))


def flow_summary(folder: RunFolder, card: Card) -> FlowSummary:
    """The quality of a run's flow, from fresh samples; numbers may be infinite or not-a-number."""
    with ExitStack() as stack:
        return _flow(folder, card, stack)[1]


def _flow(folder: RunFolder, card: Card, stack: ExitStack) -> tuple[Replicas, FlowSummary]:
    """The fresh samples of a run's flow, and the flow's summary computed from them."""
    check_flow(folder, card)
    checkpoint = read_checkpoint(folder.flow / CHECKPOINT_NAME)
    (samples,) = open_replicas([folder.evaluation], stack)
    return samples, flow_samples_summary(samples, checkpoint)


def _ensembles(groups: Sequence[Replicas]) -> dict[str, EnsembleSummary]:
    """The summaries of the ensembles by name; large series of one do not stay in memory during the next."""
    found = {}
    for group in groups:
        found[group.name] = ensemble_summary(group)
        found[group.name]["warnings"][:0] = [f"{file.path}: {file.loss}" for file in group.files if file.loss]
        group.forget_large_series()
    return found


def _begun(path: Path, stack: ExitStack) -> Ensemble:
    """Open the file. Raises InputError if it holds no configurations."""
    file = stack.enter_context(Ensemble.open_remains(path)) if Ensemble.exists(path) else None
    if file is None or file.n_configs == 0:
        raise nothing_at(path, "there is no such ensemble, or it is still thermalising")
    return file


def _is_evaluated(folder: RunFolder) -> bool:
    """Whether there are fresh samples of the trained flow."""
    if not Ensemble.exists(folder.evaluation):
        return False
    with Ensemble.open(folder.evaluation) as samples:
        return samples.n_configs > 0
