"""Slurm: sbatch, squeue, sacct, scancel."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lattice_flows.cluster.plan import Part
from lattice_flows.cluster.profile import SampleTable
from lattice_flows.cluster.schedulers import Queued, SchedulerError, call
from lattice_flows.cluster.scripts import compressed

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

    def command(self, script: Path, part: Part, dependencies: Sequence[str]) -> list[str]:
        """The sbatch command, with the options that the script's own header cannot know."""
        options = ["--parsable"]
        if part.indices is not None and isinstance(part.stage.table, SampleTable):
            options.append(f"--array={compressed(part.indices)}%{part.stage.table.array_limit}")
        if dependencies:
            options += [f"--dependency=afterok:{':'.join(dependencies)}", "--kill-on-invalid-dep=yes"]
        return ["sbatch", *options, str(script)]

    def queue(self, ids: Sequence[str]) -> Mapping[str, Queued]:
        """The states from squeue and, for jobs that have left the queue, from sacct if the site has it."""
        if not ids:
            return {}
        known = _squeue(ids)
        if gone := [job for job in ids if not any(key.partition("_")[0] == job for key in known)]:
            known = {**_sacct(gone), **known}
        return known

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel the jobs with scancel."""
        call(["scancel", *ids])


def _squeue(ids: Sequence[str]) -> dict[str, Queued]:
    columns = ",".join(f"{name}:{width}" for name, width in _COLUMNS.items())
    try:
        which = ["--array", "--states=all", f"--jobs={','.join(ids)}"]
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
        known[cells[0]] = _queued(cells[1], cells[3], int(cells[2]) if cells[2].isdigit() else 0)
    return known


def _sacct(ids: Sequence[str]) -> dict[str, Queued]:
    """The states from sacct; none if the site keeps no accounts."""
    try:
        which = ["--allocations", "--array", f"--jobs={','.join(ids)}"]
        text = call(["sacct", "--noheader", "--parsable2", *which, "--format=JobID,State"])
    except SchedulerError:
        return {}
    rows = [line.split("|") for line in text.splitlines()]
    return {row[0]: _queued(row[1].split()[0], "", 0) for row in rows if len(row) == 2 and row[1]}


def _queued(state: str, reason: str, requeued: int) -> Queued:
    if state in _WAITING:
        return Queued("waiting", _REASONS.get(reason.strip("()"), f"Slurm says {reason}"), requeued)
    if state in _ENDS:
        return Queued("ended", _ENDS[state], requeued)
    return Queued("running", "", requeued)  # or whatever newer versions call it
