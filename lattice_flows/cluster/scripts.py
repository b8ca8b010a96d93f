"""The job scripts of a run, from the templates beside this file. Each is complete: a person can submit it as well."""

import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lattice_flows.card.plugins import OPTION, are_allowed
from lattice_flows.cluster.plan import Part, Stage, log, outcome
from lattice_flows.cluster.profile import Profile, SampleTable, TrainTable, seconds
from lattice_flows.errors import InputError
from lattice_flows.production.run_folder import RunFolder

LAUNCHER, ALL = "torchrun.sh", "all.sh"


class _Verbatim(str):
    """A line of shell, or of a scheduler's options, from the profile: it is inserted as it is."""


def _inserted(value: object) -> str:
    """The text that a template inserts for a value: one shell word, whatever it is. Slurm reads its options alike."""
    return value if isinstance(value, _Verbatim) else quote(str(value))


def script_path(folder: RunFolder, stage: str) -> Path:
    """The path of a stage's job script."""
    return folder.cluster / f"{stage}.sh"


def render(folder: RunFolder, profile: Profile, parts: Sequence[Part], directory: Path) -> dict[Path, str]:
    """The text of every script for what is left to do; relative paths of the card are taken from `directory`.

    Raises InputError for a folder whose name no scheduler's option can hold.
    """
    for path in (folder.path, directory):
        if not str(path).isprintable() or "\\" in str(path):
            raise InputError(f"{path}: job scripts cannot name a path with a backslash or control characters")
    templates = _templates()
    scripts = {
        script_path(folder, part.stage.name): templates.get_template(f"{profile.scheduler}.sh.j2").render(
            _values(folder, profile, part.stage, directory)
        )
        for part in parts
    }
    if profile.train.processes_per_node * profile.train.nodes > 1:
        scripts[folder.cluster / LAUNCHER] = templates.get_template(f"{LAUNCHER}.j2").render()
    if profile.scheduler == "local":
        text = templates.get_template(f"{ALL}.j2").render(folder=folder.cluster, run=folder.path, parts=_local(parts))
        scripts[folder.cluster / ALL] = text
    return scripts


def compressed(indices: Sequence[int]) -> str:
    """Indices, in ascending order, as ranges: 0-3,7 for 0, 1, 2, 3 and 7."""
    known = set(indices)
    starts = [index for index in indices if index - 1 not in known]
    ends = [index for index in indices if index + 1 not in known]
    return ",".join(f"{start}" if start == end else f"{start}-{end}" for start, end in zip(starts, ends))


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("lattice_flows.cluster", ""),
        undefined=StrictUndefined,
        finalize=_inserted,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _values(folder: RunFolder, profile: Profile, stage: Stage, directory: Path) -> dict[str, Any]:
    """The values that the templates name, each of them set for every stage."""
    table = stage.table
    return {
        "kind": stage.kind,
        "stage": stage.name,
        "ensemble": stage.ensemble.name if stage.ensemble else None,
        "count": stage.count,
        "indices": None if stage.indices is None else compressed(stage.indices),
        "limit": table.array_limit if isinstance(table, SampleTable) else None,
        "run": folder.path,
        "options": _Verbatim(f" {OPTION}" if are_allowed() else ""),
        "directory": directory,
        "logs": folder.cluster / "logs",
        "log": str(log(folder, stage.name).with_suffix("")),
        "outcomes": outcome(folder, stage.name).parent,
        "kernels": folder.cluster / "kernels",
        "launcher": folder.cluster / LAUNCHER,
        "programs": Path(sys.executable).parent,
        "job_name": f"{stage.name}.{folder.path.name}",
        "account": profile.account,
        "partition": table.partition or profile.partition,
        "qos": profile.qos,
        "modules": profile.modules,
        "environment": [_Verbatim(line) for line in profile.environment],
        "directives": [_Verbatim(line) for line in (*profile.directives, *table.directives)],
        "max_requeues": profile.max_requeues,
        "save_seconds": profile.save_seconds,
        "seconds": seconds(table.time),
        "time": _clock(seconds(table.time)) if profile.scheduler == "pbs" else table.time,
        "memory_gb": table.memory_gb,
        **_processors(stage),
    }


def _processors(stage: Stage) -> dict[str, int]:
    """The number of nodes and, on each, of processes, threads per process, cores and GPUs."""
    table = stage.table
    if isinstance(table, TrainTable):
        processes, threads, gpus = table.processes_per_node, table.cpus_per_process, table.gpus_per_node
        return {
            "nodes": table.nodes,
            "processes": processes,
            "threads": threads,
            "cpus": processes * threads,
            "gpus": gpus,
        }
    gpus = table.gpus if isinstance(table, SampleTable) and stage.ensemble and stage.ensemble.needs_flow else 0
    return {"nodes": 1, "processes": 1, "threads": table.cpus, "cpus": table.cpus, "gpus": gpus}


def _clock(total: int) -> str:
    """The time as HH:MM:SS, without days."""
    return f"{total // 3600:02}:{total // 60 % 60:02}:{total % 60:02}"


def _local(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """The lines of all.sh."""
    return [
        {
            "name": part.stage.name,
            "width": part.stage.table.array_limit if isinstance(part.stage.table, SampleTable) else 1,
            "tasks": " ".join(map(str, part.indices or ())),
            "after": part.after,
        }
        for part in parts
    ]
