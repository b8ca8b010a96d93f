"""PBS Professional and OpenPBS: qsub, qstat, qdel."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lattice_flows.cluster.plan import Part
from lattice_flows.cluster.profile import SampleTable
from lattice_flows.cluster.schedulers import Queued, SchedulerError, call, last_match

_JOB = re.compile(r"\d+(\[\])?(\.\S+)?", re.ASCII)  # 12.server, or 12[].server for an array
_RUNNING, _ENDED = set("RBEST"), set("FXM")


class Pbs:
    """PBS, not yet tried on a server: see runs/cluster/pbs.toml."""

    look = "qstat -u $USER"

    def command(self, script: Path, part: Part, dependencies: Sequence[str]) -> list[str]:
        """The qsub command. An array is a range of at least two: finished tasks in it start again and end at once."""
        options = []
        if part.indices is not None and isinstance(part.stage.table, SampleTable):
            first, last = part.indices[0], part.indices[-1]
            limit = part.stage.table.array_limit
            options += ["-v", f"TASK={first}"] if first == last else ["-J", f"{first}-{last}%{limit}"]
        if dependencies:
            options += ["-W", f"depend=afterok:{':'.join(dependencies)}"]
        return ["qsub", *options, str(script)]

    def job(self, answer: str) -> str | None:
        """The number with the server's name."""
        found = last_match(_JOB, answer)
        return None if found is None else found[0]

    def most_tasks(self, cluster: str | None) -> int | None:
        """Not known: qsub refuses what is too large."""
        return None

    def queue(self, ids: Sequence[str]) -> Mapping[str, Queued]:
        """The states from qstat, also of finished jobs if the server remembers them."""
        if not ids:
            return {}
        try:
            jobs = json.loads(call(["qstat", "-x", "-t", "-f", "-F", "json", *ids])).get("Jobs", {})
        except ValueError:
            raise SchedulerError("qstat: the answer is not JSON") from None
        return {_key(name): _queued(entry) for name, entry in jobs.items()}

    def cancel(self, ids: Sequence[str]) -> None:
        """Delete the jobs with qdel."""
        call(["qdel", *ids])


def _key(name: str) -> str:
    """The name of a task in this package, 12[].server_3, from PBS's 12[3].server."""
    number, bracket, rest = name.partition("[")
    index, _, server = rest.partition("]")
    return f"{number}[]{server}_{index}" if bracket and index else name


def _queued(entry: Mapping[str, str]) -> Queued:
    state, requeued = entry.get("job_state", ""), max(0, int(entry.get("run_count", 0)) - 1)
    if state in _RUNNING:
        return Queued("running", "", requeued)
    return Queued("ended" if state in _ENDED else "waiting", str(entry.get("comment", "")), requeued)
