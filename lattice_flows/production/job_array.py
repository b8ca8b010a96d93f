"""Job arrays: the chains of one ensemble split into independent tasks."""

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lattice_flows.card.budget import is_complete
from lattice_flows.card.card import EnsembleTable
from lattice_flows.ensembles import Ensemble, EnsembleError
from lattice_flows.ensembles.extent import glance
from lattice_flows.errors import InputError
from lattice_flows.production.run_folder import RunFolder


@dataclass(frozen=True)
class Task:
    """Task `index` of `count`, counted from 0."""

    index: int
    count: int

    def chains(self, n_chains: int) -> range:
        """The numbers of the task's chains: contiguous, and equally many for all tasks up to one."""
        return range(n_chains * self.index // self.count, n_chains * (self.index + 1) // self.count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_task(text: str) -> Task:
    """The task that "3/16" stands for. Raises InputError for any other form."""
    where = f"--task {text}"
    if not (found := re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)):
        raise InputError(f"{where}: must be written I/N, task I of N counted from 0, such as 3/16")
    task = Task(int(found[1]), int(found[2]))
    if task.index >= task.count:
        raise InputError(f"{where}: tasks are counted from 0, so the last one of {task.count} is {task.count - 1}")
    return task


@dataclass(frozen=True)
class TaskProgress:
    """The progress of one task, from its file."""

    index: int
    n_configs: int  # per chain
    n_thermalised: int  # steps; all of them once there is a configuration
    finished: bool  # holds all that the card asks for


def task_progress(folder: RunFolder, table: EnsembleTable, count: int) -> list[TaskProgress]:
    """The progress of each of the `count` tasks of the ensemble, from their files alone.

    Raises InputError if a file holds other chains than its task, EnsembleError for a broken file.
    """
    begun = set(folder.tasks(table.name))
    if strange := sorted(index for index in begun if index >= count):
        raise InputError(f"{folder.task(table.name, strange[0])}: belongs to an array of more than {count} tasks")
    return [
        _progress(folder, table, Task(index, count)) if index in begun else TaskProgress(index, 0, 0, False)
        for index in range(count)
    ]


def chains_for(table: EnsembleTable, task: Task | None) -> range:
    """The numbers of the chains of the whole ensemble, or of one of its tasks."""
    return range(table.n_chains) if task is None else task.chains(table.n_chains)


def check_task(folder: RunFolder, table: EnsembleTable, task: Task | None) -> None:
    """Raise InputError if the ensemble was begun as a whole and a task is asked for, or vice versa, if it was begun
    with another number of tasks, or if it cannot be split into so many.
    """
    name = table.name
    if task is None:
        if begun := folder.tasks(name):
            raise InputError(
                f"{folder.task(name, begun[0])}: {name!r} was begun as a job array; continue with --task I/N, or "
                "delete or move the files of its tasks"
            )
        return
    if folder.is_begun(name):
        raise InputError(
            f"{folder.ensemble(name)}: holds all chains of {name!r}; continue without --task, or delete or move it"
        )
    where = f"--task {task}: ensemble {name!r} has"
    if task.count > table.n_chains:
        raise InputError(f"{where} {table.n_chains} chains; ask for no more tasks than that")
    in_set = table.chains_per_set
    if in_set and (sets := table.n_chains // in_set) % task.count:
        raise InputError(
            f"{where} {sets} sets of {in_set} chains, and each task needs whole sets; "
            f"ask for a number of tasks that divides {sets}"
        )
    _check_siblings(folder, name, task)


def _check_siblings(folder: RunFolder, name: str, task: Task) -> None:
    """Raise InputError if another task has begun that is one of another number of tasks.

    One that can be read is enough, since it was checked like this one.
    """
    for index in folder.tasks(name):
        path = folder.task(name, index)
        with suppress(EnsembleError):  # a broken file is not this task's
            begun = glance(path).task
            if index != task.index and begun:
                if begun != str(Task(index, task.count)):
                    raise InputError(
                        f"{path}: holds task {begun}, so there is no task {task}; continue with the original number of "
                        "tasks, or delete or move the files of all tasks"
                    )
                return


def is_complete_array(folder: RunFolder, table: EnsembleTable) -> bool:
    """Whether the files of the tasks hold the whole ensemble."""
    found = 0
    for path in map(partial(folder.task, table.name), folder.tasks(table.name)):
        file = glance(path)
        if file.chains.start != found or not is_complete(file, table):
            return False
        found = file.chains.stop
    return found == table.n_chains


def _progress(folder: RunFolder, table: EnsembleTable, task: Task) -> TaskProgress:
    path = folder.task(table.name, task.index)
    found, dealt = glance(path), task.chains(table.n_chains)
    if found.chains != dealt:
        raise InputError(f"{path}: holds {in_words(found.chains)}, but task {task} has {in_words(dealt)}")
    n_thermalised = table.n_thermalisation if found.n_configs else _n_thermalised(path)
    return TaskProgress(task.index, found.n_configs, n_thermalised, is_complete(found, table))


def _n_thermalised(path: Path) -> int:
    with Ensemble.open(path) as file:
        return int(file.state().get("n_thermalised", 0))


def in_words(chains: range) -> str:
    """The numbers as text: "chain 3" or "chains 3 to 5"."""
    return f"chain {chains.start}" if len(chains) == 1 else f"chains {chains.start} to {chains.stop - 1}"
