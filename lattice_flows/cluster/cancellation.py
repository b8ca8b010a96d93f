"""End the jobs of a run: `lattice-flows cancel`."""

from pathlib import Path

from rich.console import Console

from lattice_flows.cluster import local
from lattice_flows.cluster.jobs import note_cancelled, read_jobs
from lattice_flows.cluster.submission import SCHEDULERS, active
from lattice_flows.errors import InputError
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.regular_files import real


def cancel(folder: Path, console: Console) -> None:
    """Remove all jobs of the run from the queue, and end those that are running: they save first.

    Raises InputError if nothing was submitted, or the scheduler does not answer.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is not the folder of a run")
    run = RunFolder(real(folder))
    jobs = read_jobs(run)
    if jobs is None:
        raise InputError(f"{folder}: was never submitted, so there is nothing to cancel")
    left = active(run, jobs)
    if jobs.scheduler == "local":
        for job in left:
            local.cancel(job, run)
    elif left:
        SCHEDULERS[jobs.scheduler].cancel(left)
    names = {job: [name for name, entry in jobs.stages.items() if entry.job == job] for job in left}
    for job, stages in names.items():
        console.print(f"cancelled {job}: {', '.join(stages)}", markup=False, highlight=False, soft_wrap=True)
    if left:
        note_cancelled(run, left)
    else:
        console.print("no job of the run is left; nothing to cancel", highlight=False)
