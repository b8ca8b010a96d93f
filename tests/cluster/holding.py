"""`lattice-flows` that waits for a signal at a moment that is chosen, so that no test has to be quick enough:

    holding.py FOLDER ARGUMENTS...

Where FOLDER/JOB holds a number k, the job of this name ("train", "sample-hmc.3") rests in its k-th look at whether it
should end, until a signal comes; once, for the file then becomes FOLDER/JOB.held and has the process id in it. Of the
processes of one training the first to be there rests; the others wait for it as they always would.
"""

import os
import sys
import time
from pathlib import Path

from lattice_flows.cli import main
from lattice_flows.terminal.interrupt import StopRequest


def rest_at(order: Path) -> None:
    """Make the look that `order` names a long one."""
    left = int(order.read_text())

    def look(request: StopRequest) -> bool:
        nonlocal left
        left -= 1
        if left == 0 and _taken(order):
            while request.signal is None:
                time.sleep(0.02)
        return request.signal is not None

    StopRequest.__call__ = look


def _taken(order: Path) -> bool:
    mine = order.with_name(f"{order.name}.{os.getpid()}")
    try:
        order.replace(mine)
    except FileNotFoundError:  # another process of the training was first
        return False
    mine.write_text(str(os.getpid()))
    mine.replace(order.with_name(f"{order.name}.held"))
    return True


if __name__ == "__main__":
    order = Path(sys.argv[1]) / Path(os.environ["LATTICE_FLOWS_OUTCOME"]).stem
    sys.argv = ["lattice-flows", *sys.argv[2:]]
    if order.exists():
        rest_at(order)
    main()
