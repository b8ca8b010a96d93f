"""Slurm: sbatch, squeue, sacct, scancel, scontrol.

The id of a job is its number, or NUMBER;CLUSTER where the site has several clusters: all that asks for it says which.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from lattice_flows.cluster.plan import Part
from lattice_flows.cluster.profile import SampleTable
from lattice_flows.cluster.schedulers import Queued, SchedulerError, call, is_of, last_match
from lattice_flows.cluster.scripts import compressed

# With --parsable, and what wrappers of sbatch print all the same.
_JOB = re.compile(r"(?:Submitted batch job )?(?P<number>\d+)(?:(?:;| on cluster )(?P<cluster>[^\s;]+))?", re.ASCII)
_TASK = re.compile(r"\d+(_.+)?", re.ASCII)  # "7", "7_3", "7_[3-5%2]"
_MOST = re.compile(r"MaxArraySize\s*=\s*(\d+)", re.ASCII)  # beyond the largest index
_COLUMNS = {"JobArrayID": 40, "State": 20, "RestartCnt": 10, "Reason": 200}  # and their widths
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_ENDS = {
    "COMPLETED": "",
    "FAILED": "",
    "CANCELLED": "cancelled",
    "TIMEOUT": "the time limit was reached",
    "DEADLINE": "its deadline was reached",
    "OUT_OF_MEMORY": "out of memory",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not boot",
    "PREEMPTED": "preempted by another job",
}
FOR_OTHERS = "for stages before it"
_REASONS = {
    "None": "not yet considered",
    "Priority": "jobs of higher priority come first",
    "Resources": "for free nodes",
    "Dependency": FOR_OTHERS,
    "DependencyNeverSatisfied": "in vain, because a stage before it did not finish",
    "JobArrayTaskLimit": "as many tasks as allowed are running already",
    "BeginTime": "starts again shortly",
    "JobHeldUser": "held by its user",
    "JobHeldAdmin": "held by an administrator",
    "PartitionTimeLimit": "its time is longer than the partition allows",
    "PartitionNodeLimit": "it asks for more than the partition has",
    "PartitionDown": "the partition is down",
    "BadConstraints": "no node meets its requirements",
}


class Slurm:
    """Slurm, the workload manager of most sites."""

    look = "squeue --me"

    def command(self, script: Path, part: Part, dependencies: Sequence[str]) -> list[str]:
        """The sbatch command, with the options that the script's own header cannot know."""
        options = ["--parsable"]
        if part.indices is not None and isinstance(part.stage.table, SampleTable):
            options.append(f"--array={compressed(part.indices)}%{part.stage.table.array_limit}")
        if dependencies:
            clusters = _by_cluster(dependencies)
            if len(clusters) > 1:
                raise SchedulerError(
                    f"sbatch: {part.stage.name} needs jobs of the clusters {' and '.join(clusters)}, and Slurm has no "
                    "dependencies from one to another; name one with --clusters=NAME in the profile's directives"
                )
            ((cluster, numbers),) = clusters.items()
            after = f"--dependency=afterok:{':'.join(numbers)}"
            options += [*_on(cluster), after, "--kill-on-invalid-dep=yes"]
        return ["sbatch", *options, str(script)]

    def job(self, answer: str) -> str | None:
        """The number, with the cluster's name if sbatch says one."""
        found = last_match(_JOB, answer)
        return None if found is None else ";".join(filter(None, (found["number"], found["cluster"])))

    def most_tasks(self, cluster: str | None) -> int | None:
        """MaxArraySize of the controller."""
        try:
            found = last_match(_MOST, call(["scontrol", *_on(cluster or ""), "show", "config"]))
        except SchedulerError:
            return None
        return None if found is None else int(found[1])

    def queue(self, ids: Sequence[str]) -> Mapping[str, Queued]:
        """The states from squeue and, for jobs that have left the queue, from sacct if the site has it."""
        known: dict[str, Queued] = {}
        for cluster, numbers in _by_cluster(ids).items():
            here = _squeue(numbers, cluster)
            if gone := [job for job in numbers if not any(is_of(key, job) for key in here)]:
                here = {**_sacct(gone, cluster), **here}
            known |= {_full_id(key, cluster): state for key, state in here.items()}
        return known

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel the jobs with scancel."""
        for cluster, numbers in _by_cluster(ids).items():
            call(["scancel", *_on(cluster), *numbers])


def _by_cluster(ids: Sequence[str]) -> dict[str, list[str]]:
    """The numbers of the jobs of each cluster, "" for the one at hand."""
    numbers = defaultdict(list)
    for job in ids:
        number, _, cluster = job.partition(";")
        numbers[cluster].append(number)
    return dict(numbers)


def _on(cluster: str) -> list[str]:
    return [f"--clusters={cluster}"] if cluster else []


def _full_id(key: str, cluster: str) -> str:
    """7;CLUSTER_3 for the task 7_3."""
    number, underscore, task = key.partition("_")
    return f"{number};{cluster}{underscore}{task}" if cluster else key


def _squeue(numbers: Sequence[str], cluster: str) -> dict[str, Queued]:
    columns = ",".join(f"{name}:{width}" for name, width in _COLUMNS.items())
    try:
        which = [*_on(cluster), "--array", "--states=all", f"--jobs={','.join(numbers)}"]
        text = call(["squeue", "--noheader", *which, f"--Format={columns}"])
    except SchedulerError as error:
        if "Invalid job id" in str(error):  # forgotten: said where only one was asked for
            return {}
        raise
    known = {}
    for line in text.splitlines():
        cells, begin = [], 0
        for width in _COLUMNS.values():
            cells.append(line[begin : begin + width].strip())
            begin += width
        if _TASK.fullmatch(cells[0]):  # and not "CLUSTER: NAME"
            known[cells[0]] = _queued(cells[1], cells[3], int(cells[2]) if cells[2].isdigit() else 0)
    return known


def _sacct(numbers: Sequence[str], cluster: str) -> dict[str, Queued]:
    """The states from sacct; none if the site keeps no accounts."""
    try:
        which = [*_on(cluster), "--allocations", "--array", f"--jobs={','.join(numbers)}"]
        text = call(["sacct", "--noheader", "--parsable2", *which, "--format=JobID,State"])
    except SchedulerError:
        return {}
    rows = [line.split("|") for line in text.splitlines()]
    return {row[0]: _queued(row[1].split()[0], "", 0) for row in rows if len(row) == 2 and row[1].strip()}


def _queued(state: str, reason: str, requeued: int) -> Queued:
    if state in _WAITING:
        return Queued("waiting", _REASONS.get(reason.strip("()"), f"Slurm says {reason}"), requeued)
    if state in _ENDS:
        return Queued("ended", _ENDS[state], requeued)
    return Queued("running", "", requeued)  # or whatever newer versions call it
