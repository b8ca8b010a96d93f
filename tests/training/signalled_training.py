"""`lattice-flows train FOLDER`, one process of which gets a signal at a step that is chosen:

    torchrun ... signalled_training.py RANK STEP SIGNAL FOLDER

The signal is a real one; only its moment is not left to chance. The status of each process that ends by itself goes to
status.RANK in the current folder; so that torchrun, which ends all when one has ended, does not come between, they
wait for each other.
"""

import os
import signal
import sys
import time
from pathlib import Path

from lattice_flows.cli import main
from lattice_flows.training.training_state import Run

_PATIENCE = 60.0  # seconds with a process that leaves no status


def _send_at(step: int, name: str) -> None:
    advance = Run.advance

    def advance_or_end(run: Run):
        if run.step == step:
            os.kill(os.getpid(), signal.Signals[f"SIG{name}"])
        return advance(run)

    Run.advance = advance_or_end


def _leave_together(status: int) -> None:
    Path(f"status.{os.environ['RANK']}").write_text(str(status))
    end = time.monotonic() + _PATIENCE
    while len(list(Path().glob("status.*"))) < int(os.environ["WORLD_SIZE"]) and time.monotonic() < end:
        time.sleep(0.05)
    sys.exit(status)


if __name__ == "__main__":
    rank, step, name, folder = sys.argv[1:]
    if os.environ["RANK"] == rank:
        _send_at(int(step), name)
    sys.argv = ["lattice-flows", "train", folder]
    try:
        main()
    except SystemExit as ended:
        _leave_together(int(ended.code or 0))
