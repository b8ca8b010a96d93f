"""The command line, called in this process: what golden data are made with and looked at, now and later."""

import contextlib
import io
import sys

# Nothing else of the package: its modules move, the command and the formats of files do not.
from lattice_flows.cli import main


def command(*arguments: object) -> tuple[int, str]:
    """The exit status of `lattice-flows ARGUMENTS`, and all that it said."""
    said, before = io.StringIO(), sys.argv
    sys.argv = ["lattice-flows", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            main()
    except SystemExit as ended:
        return int(ended.code or 0), said.getvalue()
    finally:
        sys.argv = before
    raise AssertionError("the command always ends the process")


def done(*arguments: object) -> str:
    """What a command said that must succeed."""
    status, said = command(*arguments)
    assert status == 0, f"{' '.join(map(str, arguments))}: exit status {status}\n{said}"
    return said
