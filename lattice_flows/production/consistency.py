"""Whether the files of a run folder were made by its card, and with the flow that stands beside them."""

from collections.abc import Sequence
from contextlib import ExitStack

from lattice_flows.card.card import Card, EnsembleTable
from lattice_flows.ensembles import Ensemble
from lattice_flows.production.begun import flow_checksum
from lattice_flows.production.header import as_begun, check_same
from lattice_flows.production.header_check import check_header
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.production.train import check_flow_there, evaluation_table, is_at_end
from lattice_flows.training import CHECKPOINT_NAME, load_flow_weights, read_checkpoint


def check_run(folder: RunFolder, card: Card) -> None:
    """Raise InputError, CheckpointError or EnsembleError for the first file that is not of this card's run."""
    check_flow(folder, card)
    for table in card.ensembles:
        with ExitStack() as stack:
            check_made_by(
                folder, card, table, [stack.enter_context(Ensemble.open(p)) for p in folder.files(table.name)]
            )


def check_flow(folder: RunFolder, card: Card) -> None:
    """Raise CheckpointError or InputError if there is a flow, or fresh samples of it, that are not of this card."""
    path = folder.flow / CHECKPOINT_NAME
    check_flow_there(folder, card)
    if card.flow is None or not path.exists():
        return
    is_at_end(folder, card, read_checkpoint(path))
    if Ensemble.exists(folder.evaluation):
        with Ensemble.open(folder.evaluation) as samples:
            check_made_by(folder, card, evaluation_table(), [samples])


def check_made_by(folder: RunFolder, card: Card, table: EnsembleTable, files: Sequence[Ensemble]) -> None:
    """Raise InputError if one of the ensemble's files was not made by this card, or with another flow."""
    checksum = flow_checksum(table, folder.flow / CHECKPOINT_NAME)
    for file in files:
        check_header(file)
        check_same(file.path, file, card, as_begun(table, file.attributes), checksum)


def checksums(folder: RunFolder, card: Card, files: Sequence[Ensemble]) -> dict[str, str]:
    """The checksums of the run's flow and of these files, by their places in its folder."""
    found = {str(file.path.relative_to(folder.path)): file.sha256 for file in files}
    checkpoint = folder.flow / CHECKPOINT_NAME
    if card.flow is not None and checkpoint.exists():
        found[str(checkpoint.relative_to(folder.path))] = load_flow_weights(checkpoint).sha256
    return found
