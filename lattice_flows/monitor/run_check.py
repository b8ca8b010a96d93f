"""The check of a run folder: every file is whole, and made from what stands beside it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from lattice_flows.ensembles import Ensemble
from lattice_flows.production.consistency import check_run, checksums
from lattice_flows.production.run_folder import RunFolder, find_run
from lattice_flows.regular_files import read_text
from lattice_flows.training import CHECKPOINT_NAME, HISTORY_NAME, history_of, read_checkpoint


def verified_run(path: Path) -> Iterator[str]:
    """A line for each check that passed, and one where the report is not of these files.

    Raises InputError, EnsembleError or CheckpointError for the first file that is broken, or was made from something
    else than the card and the flow in the folder.
    """
    folder, card = find_run(path, None)
    paths = [file for table in card.ensembles for file in folder.files(table.name)]
    if card.flow is not None and (folder.flow / CHECKPOINT_NAME).exists():
        yield from _verified_flow(folder)
        paths += [folder.evaluation] if Ensemble.exists(folder.evaluation) else []
    with ExitStack() as stack:
        files = [stack.enter_context(Ensemble.open(path)) for path in paths]
        for file in files:
            yield from file.verify()
        check_run(folder, card)
        yield f"{folder.path}: these files agree with {folder.card.name} and with each other"
        yield from _report(folder, checksums(folder, card, files))


def verified_checkpoint(path: Path) -> str:
    """The line for a checkpoint that is whole."""
    return f"{path}: flow checkpoint at step {read_checkpoint(path).step}; every record's checksum agrees"


def _verified_flow(folder: RunFolder) -> Iterator[str]:
    path = folder.flow / CHECKPOINT_NAME
    yield verified_checkpoint(path)
    checkpoint = read_checkpoint(path)
    path = folder.flow / HISTORY_NAME
    if history := history_of(checkpoint, path):
        yield f"{path}: {len(history)} rows of this training"
    elif checkpoint.history:
        yield f"{path}: is missing; the report has no figure of the training without it"
    if checkpoint.reason and not Ensemble.exists(folder.evaluation):
        yield f"{folder.evaluation}: is missing; `lattice-flows train {folder.path}` draws the flow's samples again"


def _report(folder: RunFolder, found: dict[str, str]) -> Iterator[str]:
    """A line on the report, if there is one: whether it is of the files that are there now."""
    path = folder.report / "summary.json"
    if not path.exists():
        return
    try:
        told = json.loads(read_text(path))["made_from"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        told = None  # of an older version, or not ours
    of_these = "is of these files" if told == found else "is not of these files as they are now"
    yield f"{path}: {of_these}" + ("" if told == found else f"; `lattice-flows analyse {folder.path}` makes it again")
