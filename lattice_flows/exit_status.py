"""The end of a command: its exit status, the one line that says why, and the note that it leaves for a job script."""

import atexit
import errno
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from lattice_flows.catalogue import PluginError, foreign_place, one_line
from lattice_flows.terminal.streams import tell

EXIT_FAILURE, EXIT_INPUT, EXIT_STOPPED = 1, 2, 75
_TORCHS_ALLOCATOR = "DefaultCPUAllocator: "  # in the RuntimeError that torch raises in place of a MemoryError
_LONGEST_NAME = 255  # bytes, of all file systems in use
_OUTCOME = "LATTICE_FLOWS_OUTCOME"
STOPPED_AT_ONCE = "stopped at once; what was committed is safe; run again to continue"


def run_as_command(main: Callable[[], None]) -> NoReturn:
    """Run the main function of a script, and end as the command `lattice-flows` does: its status, and one line why."""
    try:
        main()
        status, message = 0, ""
    except Exception as error:
        status, message = exit_status(error)
    except KeyboardInterrupt:
        status, message = EXIT_STOPPED, STOPPED_AT_ONCE
    if message:
        tell(f"{Path(sys.argv[0]).name}: {message}")
    sys.exit(status)


def exit_status(error: Exception) -> tuple[int, str]:
    """The exit status for an error and the line to print; an unexpected error is raised again."""
    if hasattr(error, "format_message"):  # typer's own: a wrong option or argument
        return EXIT_INPUT, error.format_message()
    from lattice_flows.ensembles import StorageError
    from lattice_flows.errors import InputError
    from lattice_flows.terminal.interrupt import Stopped

    user_errors, failures, told_by_first = _error_types()
    if isinstance(error, Stopped):
        return EXIT_STOPPED, f"stopped by {error}; {error.kept}" if is_first() else ""
    if isinstance(error, told_by_first) and not is_first():
        return EXIT_FAILURE, ""
    if isinstance(error, (StorageError, *failures)):
        return EXIT_FAILURE, str(error)
    if isinstance(error, (InputError, *user_errors)):
        return EXIT_INPUT, str(error)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return EXIT_INPUT, f"{_too_long(error.filename)}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:  # a full disk, say
        return EXIT_FAILURE, f"{error.filename or 'output'}: {error.strerror}"
    if isinstance(error, ImportError) and os.strerror(errno.EMFILE) in str(error):  # of a part that is loaded late
        return EXIT_FAILURE, f"{str(error).splitlines()[0]}; raise the limit, ulimit -n"
    if isinstance(error, MemoryError) or _TORCHS_ALLOCATOR in str(error):
        return (
            EXIT_FAILURE,
            "out of memory; lower training.micro_batch, a batch_size, n_chains, or the lattice, or ask for more",
        )
    if type(error).__name__ == "OutOfMemoryError":  # torch's, on a GPU
        return (
            EXIT_FAILURE,
            "the GPU is out of memory; lower training.micro_batch, the batch_size, or the chains of a task",
        )
    if found := foreign_error(error):
        return EXIT_INPUT, found
    leave_outcome(EXIT_FAILURE, f"{type(error).__name__}: {error}")
    raise error


def foreign_error(error: BaseException) -> str:
    """The line for an error that code of another package has raised, or has led to; "" for any other."""
    place = foreign_place(error.__traceback__)
    return f"{one_line(error)} ({place})" if place is not None else ""


def _too_long(path: Any) -> Path:
    """The part of a path that the user gave: it ends with the name that is too long, if one is."""
    path = Path(os.fsdecode(path or ""))
    return next((part for part in [*reversed(path.parents), path] if len(os.fsencode(part.name)) > _LONGEST_NAME), path)


def _error_types() -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """The types of wrong input, of failures, and of failures of all processes, which only the first one reports."""
    from lattice_flows.ensembles import EnsembleError
    from lattice_flows.kernels.compiled import NoCompilerError
    from lattice_flows.training import CheckpointError, FailedOnFirstRank, LaunchError, RankLost, TrainingDiverged

    return (
        (EnsembleError, CheckpointError, LaunchError, NoCompilerError, PluginError),
        (TrainingDiverged, RankLost),
        (TrainingDiverged, FailedOnFirstRank),
    )


def is_one_of_several() -> bool:
    """Whether this is one of several processes that torchrun started."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def is_first() -> bool:
    """Whether this is the only process, or the first of those that torchrun started, which is the one that prints."""
    return os.environ.get("RANK", "0") in ("", "0")


def leave_outcome(status: int, message: str, lost: bool = False) -> None:
    """Tell a job script how the command ended: torchrun's own exit status does not say."""
    file = os.environ.get(_OUTCOME)
    stopped = status == EXIT_STOPPED  # torchrun ends the others with the first that has ended: any may be the last
    if not file or (not is_first() and not message and not stopped):
        return
    path = Path(file)
    if (lost or (status and not message)) and path.exists():  # another process has said why
        return
    from lattice_flows.errors import InputError
    from lattice_flows.outputs import OUTCOME, write_output

    with suppress(OSError, InputError):  # a full disk, a file of somebody else's: the exit status still says it
        text = json.dumps({"status": status, "message": message}) + "\n"
        write_output(path, text.encode(), OUTCOME)


def check_surroundings() -> None:
    """Raise InputError if the working directory is gone, or the note for a job script would overwrite what is none."""
    from lattice_flows.errors import InputError

    try:
        os.getcwd()
    except OSError:  # libraries end the process with words of their own then
        raise InputError("the working directory no longer exists; change to another one") from None
    if file := os.environ.get(_OUTCOME):
        from lattice_flows.outputs import OUTCOME, check_target

        check_target(Path(file), OUTCOME)


def end(status: int) -> NoReturn:
    """Exit with this status. A process started by torchrun ends before its interpreter is torn down.

    A thread of gloo that asks for the interpreter at that moment would abort the process, and torchrun would end all
    others.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        atexit.register(_end_at_once, status)
    sys.exit(status)


def _end_at_once(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)
