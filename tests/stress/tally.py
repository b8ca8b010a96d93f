"""What became of hostile attempts: how many there were, how they ended, and what was wrong."""

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lattice_flows.exit_status import EXIT_FAILURE, EXIT_INPUT, EXIT_STOPPED

FAULTS = ("traceback", "hang", "bytes lost", "crash", "complaint", "left behind", "slow")
"""Kinds of what must not be. A complaint is not one line, or there is none."""

FAILED = "failed (1)"
_STATUSES = {0: "done", EXIT_INPUT: "refused (2)", EXIT_FAILURE: FAILED, EXIT_STOPPED: "stopped (75)"}
_PYTHON_WARNING = re.compile(r"\.py:\d+: \w*Warning")  # which is for programmers


@dataclass
class Tally:
    """Of one sweep."""

    sweep: str
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tried(self) -> int:
        return self.ends.total()

    def fault(self, kind: str, what: str, told: str, again: str) -> None:
        """Note and print a fault, with the command that repeats it."""
        assert kind in FAULTS, kind
        self.faults.append({"kind": kind, "what": what, "told": told, "again": again})
        print(f"{kind}: {what}\n    {told}\n    again: {again}", flush=True)

    def as_dict(self) -> dict[str, Any]:
        kinds = Counter(one["kind"] for one in self.faults)
        return {
            "tried": self.tried,
            "seconds": round(self.seconds, 1),
            "ends": dict(self.ends.most_common()),
            "faults": {kind: kinds[kind] for kind in FAULTS},
            "told": self.faults,
        }


def table(tallies: list[Tally]) -> str:
    """Sweeps across; how they ended and what was wrong down."""
    rows = [("tried", [one.tried for one in tallies]), ("seconds", [round(one.seconds) for one in tallies])]
    ends = dict.fromkeys(end for one in tallies for end in sorted(one.ends))
    rows += [(end, [one.ends[end] for one in tallies]) for end in ends]
    rows += [(f"! {kind}", [one.as_dict()["faults"][kind] for one in tallies]) for kind in FAULTS]
    head = f"{'':24}" + "".join(f"{one.sweep:>12}" for one in tallies)
    return "\n".join([head, *(f"{name:24}" + "".join(f"{n:12d}" for n in numbers) for name, numbers in rows)])


def write_json(path: Path, tallies: list[Tally]) -> None:
    path.write_text(json.dumps({one.sweep: one.as_dict() for one in tallies}, indent=1) + "\n")


def end_of(status: int | None, stderr: str, is_heard: bool = True) -> tuple[str, tuple[str, str] | None]:
    """How a command ended, and the kind of fault and its words, if that is one.

    status    as of os.wait; None for one that had to be killed
    is_heard  whether standard error could be written
    """
    if status is None:
        return "hang", ("hang", stderr[-200:] or "no word")
    if os.WIFSIGNALED(status):
        return "crash", ("crash", f"signal {os.WTERMSIG(status)}: {stderr[-200:]!r}")
    code = os.waitstatus_to_exitcode(status)
    end = _STATUSES.get(code, f"status {code}")
    if "Traceback (most recent call last)" in stderr:
        return "traceback", ("traceback", " | ".join(stderr.strip().splitlines()[-4:])[-600:])
    if code not in _STATUSES:
        return end, ("crash", f"{end}: {stderr[-200:]!r}")
    complaints = [line for line in stderr.splitlines() if line.startswith("lattice-flows: ")]
    if is_heard and (len(complaints) != (code != 0) or _PYTHON_WARNING.search(stderr)):
        return end, ("complaint", f"{end}, {len(complaints)} complaints: {stderr[-400:]!r}")
    return end, None
