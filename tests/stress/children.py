"""The command line in a fork of this process, see `import_everything`.

The parent runs no compiled kernel: the threads of one do not survive a fork.
"""

import importlib
import os
import pkgutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import lattice_flows.report.page
from lattice_flows.cli import main as command_line

"".encode("utf-8-sig")  # a user who may read nothing finds no codec of Python later


def import_everything() -> None:
    """Import what a command may need, before the first fork: a child is at work at once, and source may be edited."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other packages
        for module in pkgutil.walk_packages(lattice_flows.__path__, "lattice_flows."):
            importlib.import_module(module.name)
        for name in ("h5netcdf", "pyerrors"):
            with suppress(ImportError):
                importlib.import_module(name)


def with_few_figures() -> None:
    """Let reports of this process have two figures: many take seconds to draw, and meet nothing else."""
    plots = lattice_flows.report.page.all_plots
    lattice_flows.report.page.all_plots = lambda *given: plots(*given)[:2]


def forked(arguments: Sequence[str], stdout: Path, stderr: Path, prepare: Callable[[], None]) -> int:
    """Fork a process that runs `lattice-flows ARGUMENTS`, after `prepare`; returns its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    if child := os.fork():
        return child
    status = 1
    try:
        for number, path, name in ((1, stdout, "stdout"), (2, stderr, "stderr")):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(descriptor, number)
            os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "w", closefd=False, errors="backslashreplace"))
        prepare()
        sys.argv = ["lattice-flows", *arguments]
        command_line()
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:  # whatever happens, the child does not go on as its parent
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def wait(child: int, seconds: float) -> int | None:
    """The status of the child, or None where it was still at work and has been killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else status
