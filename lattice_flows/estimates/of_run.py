"""The ensembles of a run, each one file or the files of a job array read as one; and the missing parts of an array."""

from collections.abc import Sequence
from contextlib import ExitStack

from lattice_flows.card.budget import is_complete
from lattice_flows.card.card import Card, EnsembleTable
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.grouping import grouped
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.production.consistency import check_made_by
from lattice_flows.production.origin import Origin
from lattice_flows.production.run_folder import RunFolder

_FEWEST = 0.1  # of the longest file's configurations: a task that has just begun would stand for nothing but noise
_MOST_NAMED = 8


def open_run_ensembles(folder: RunFolder, card: Card, stack: ExitStack) -> list[Replicas]:
    """The ensembles that are past their thermalisation. Files of a job array that are much shorter than the others
    are left out.

    Raises InputError if a file was not made by this card, or with another flow; EnsembleError for a broken file.
    """
    found = []
    for table in card.ensembles:
        files = [stack.enter_context(Ensemble.open_remains(path)) for path in folder.files(table.name)]
        longest = max((file.n_configs for file in files), default=0)
        if longest > 0:
            check_made_by(folder, card, table, files)
            found.append(_group([file for file in files if file.n_configs > _FEWEST * longest]))
    return found


def _group(files: Sequence[Ensemble]) -> Replicas:
    group, *others = grouped(files)
    if others:
        one, other = group.files[0].path, others[0].files[0].path
        raise InputError(f"{one} and {other}: made by different cards, samplers or flows; delete or move one of them")
    return group


def array_warnings(group: Replicas, table: EnsembleTable) -> list[str]:
    """Warnings that name the missing and the unfinished tasks of a job array; none for an ensemble of one file."""
    tasks = [task for file in group.files if (task := Origin(file.attributes).task) is not None]
    if not tasks:
        return []
    there = {task.index: file for task, file in zip(tasks, group.files)}
    missing = [index for index in range(tasks[0].count) if index not in there]
    unfinished = [index for index, file in there.items() if not is_complete(file, table)]
    found = []
    if missing:
        found.append(f"holds {group.n_chains} of {table.n_chains} chains: {_tasks(missing)} missing")
    if unfinished:
        found.append(f"{_tasks(unfinished)} not finished: some chains are shorter")
    return found


def _tasks(indices: Sequence[int]) -> str:
    """The tasks with their verb: "task 3 is", "tasks 3 and 7 are", "tasks 0, 1, 2, ... and 990 others are"."""
    if len(indices) == 1:
        return f"task {indices[0]} is"
    if len(indices) <= _MOST_NAMED:
        return f"tasks {', '.join(map(str, indices[:-1]))} and {indices[-1]} are"
    return f"tasks {', '.join(map(str, indices[:_MOST_NAMED]))} and {len(indices) - _MOST_NAMED} others are"
