"""Sends every signal to real runs, each in another stage of the work, and prints how they ended, as JSON.

    python tests/stress/signal_runs.py

One run of a card is stopped again and again; at the end it must be equal, to the bit, to one that never was.
"""

import json
import os
import signal
import tempfile
import time
from pathlib import Path

from kill_runs import RunJob  # this folder is the path of a program; it sets the threads and imports what runs need
from stress.board import Board
from stress.children import import_everything
from stress.job import Job

# What is sent, and the stage in which it is: the stages in the order in which they first come.
ORDERS: tuple[tuple[str, tuple[signal.Signals, ...]], ...] = (
    ("training", (signal.SIGINT, signal.SIGINT)),
    ("training", (signal.SIGTERM,)),
    ("sampling", (signal.SIGINT,)),
    ("join", (signal.SIGUSR2,)),
    ("thermalisation", (signal.SIGHUP,)),
    ("tuning", (signal.SIGUSR1,)),
    ("segment", (signal.SIGINT, signal.SIGINT)),
    ("report", (signal.SIGTERM,)),
)


def stopped(job: Job, stage: str, signals: tuple[signal.Signals, ...]) -> dict[str, object]:
    """Run the job, send the signals once it is in the stage, and wait for its end."""
    child, ended = job.start(job.out, lambda: job.board.wait_in(stage)), 0
    while job.board.stage != stage and not ended:
        time.sleep(0.001)
        ended, status = os.waitpid(child, os.WNOHANG)
    begun = time.monotonic()
    for number in signals if not ended else ():
        os.kill(child, number)
        time.sleep(0.01)  # two of one kind at once are one
    job.board.go_on()
    if not ended:
        _, status = os.waitpid(child, 0)
    return {
        "stage": stage if not ended else "never met",
        "signals": [number.name for number in signals],
        "status": os.waitstatus_to_exitcode(status),
        "seconds": round(time.monotonic() - begun, 2),
        "errors": (job.home / "stderr").read_text(),
    }


def main() -> None:
    import_everything()
    with tempfile.TemporaryDirectory() as folder:
        job = RunJob("quick", Path(folder), Board())
        job.fresh(job.out)
        found = []
        for stage, signals in ORDERS:
            found.append(stopped(job, stage, signals))
            job.check()
        job.finish(job.out)
        job.compare()
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
