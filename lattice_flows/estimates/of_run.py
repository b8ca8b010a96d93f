"""The ensembles of a run, each one file or the files of a job array read as one; and the missing parts of an array."""

from collections.abc import Sequence
from contextlib import ExitStack

from lattice_flows.card.card import Card, EnsembleTable
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.replicas import Replicas, grouped
from lattice_flows.production.origin import Origin
from lattice_flows.production.run_folder import RunFolder

_FEWEST = 0.1  # of the longest file's configurations: a task that has just begun would stand for nothing but noise
_MOST_NAMED = 8


def open_run_ensembles(folder: RunFolder, card: Card, stack: ExitStack) -> list[Replicas]:
    """The ensembles that are past their thermalisation. Files of a job array that are much shorter than the others
    are left out.

    Raises InputError if a file belongs to another theory than the card's or to another ensemble; EnsembleError for a
    broken file.
    """
    found = []
    for table in card.ensembles:
        files = [stack.enter_context(Ensemble.open(path)) for path in folder.files(table.name)]
        longest = max((file.n_configs for file in files), default=0)
        if longest > 0:
            found.append(_group([file for file in files if file.n_configs > _FEWEST * longest], table, card))
    return found


def _group(files: Sequence[Ensemble], table: EnsembleTable, card: Card) -> Replicas:
    for file in files:
        if file.header("name") not in (None, table.name):
            raise InputError(f"{file.path}: holds the ensemble {file.header('name')!r}; move it back to its place")
    group, *others = grouped(files)
    check_theory(group, card)
    if others:
        one, other = group.files[0].path, others[0].files[0].path
        raise InputError(f"{one} and {other}: made by different cards, samplers or flows; delete or move one of them")
    return group


def check_theory(group: Replicas, card: Card) -> None:
    """Raise InputError if a file in the run's folder does not belong to the card's theory."""
    if group.sampled_theory != card.theory.as_dict():
        raise InputError(
            f"{group.files[0].path}: was made for the theory {group.sampled_theory}, "
            f"but the run's card has {card.theory.as_dict()}"
        )


def array_warnings(group: Replicas, table: EnsembleTable) -> list[str]:
    """Warnings that name the missing and the unfinished tasks of a job array; none for an ensemble of one file."""
    tasks = [task for file in group.files if (task := Origin(file.attributes).task) is not None]
    if not tasks:
        return []
    there = {task.index: file for task, file in zip(tasks, group.files)}
    missing = [index for index in range(tasks[0].count) if index not in there]
    unfinished = [index for index, file in there.items() if not file.finished or file.n_configs < table.n_configs]
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
