"""Stand-ins for the programs that job scripts and `submit` call: they write down what they were asked."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

_LATTICE_FLOWS = """#!@PYTHON@
import json, os, signal, sys, time
from pathlib import Path

HOME = Path("@HOME@")
RANK = os.environ.get("RANK", "0")
OUTCOME = Path(os.environ["LATTICE_FLOWS_OUTCOME"])
heard = []

def wait_for(name):
    while not (HOME / name).exists():
        time.sleep(0.01)

def wait_for_signal():
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda number, frame: heard.append(signal.Signals(number).name))
    (HOME / f"ready.{RANK}").touch()
    while not heard:
        time.sleep(0.01)
    (HOME / f"heard.{RANK}").write_text(heard[0])

def end(status, left=None, message=""):
    if left is not None and RANK == "0":
        OUTCOME.write_text(json.dumps({"status": left, "message": message}) + "\\n")
    sys.exit(status)

called = {"argv": sys.argv[1:], "cwd": os.getcwd(), "threads": os.environ["OMP_NUM_THREADS"]}
called |= {"outcome": str(OUTCOME), "left": OUTCOME.exists(), "kernels": os.environ.get("NUMBA_CACHE_DIR")}
called |= {"usr1_ignored": signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN}
written = HOME / f"{os.getpid()}.tmp"
written.write_text(json.dumps(called))
written.rename(HOME / f"called.{RANK}")
@DOES@
"""

_TORCHRUN = """#!@PYTHON@
import os, subprocess, sys
command = sys.argv[sys.argv.index("--no-python") + 1 :]
ranks = [subprocess.Popen(command, start_new_session=True, env={**os.environ, "RANK": str(rank)}) for rank in range(2)]
sys.exit(1 if any([rank.wait() for rank in ranks]) else 0)
"""

_SBATCH = """#!/bin/bash
cd @HOME@
n=$(($(cat n) + 1)) && echo $n >n
printf '%s\\n' "$*" >>sbatch
cp "$(dirname "${@: -1}")/jobs.json" jobs.$n
if [ "$n" = "$(cat refuse)" ]; then
    echo "sbatch: error: Batch job submission failed: Invalid account" >&2
    exit 1
fi
echo "$((100 + n))"
"""


class Programs:
    """A folder of programs in front of PATH, and what they wrote down."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bin = home / "bin"
        self.bin.mkdir(parents=True)
        self.install("sleep", f"#!/bin/bash\nexec {_real('sleep')} 0.05\n")  # what is repeated is repeated soon
        self.install("scontrol", '#!/bin/bash\necho "$*" >>@HOME@/scontrol\n')

    def install(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text.replace("@HOME@", str(self.home)).replace("@PYTHON@", sys.executable))
        path.chmod(0o755)

    def lattice_flows(self, does: str) -> None:
        """A `lattice-flows` that does this: Python over the functions above."""
        self.install("lattice-flows", _LATTICE_FLOWS.replace("@DOES@", does))

    def torchrun(self) -> None:
        """Starts two ranks in sessions of their own, and dies of USR1, as the real one."""
        self.install("torchrun", _TORCHRUN)

    def slurm(self) -> None:
        """sbatch counts from 101; squeue prints the file `queue`; scancel writes down."""
        for name, text in (("n", "0"), ("refuse", "0"), ("queue", "")):
            (self.home / name).write_text(text)
        self.install("sbatch", _SBATCH)
        self.install("squeue", '#!/bin/bash\necho "$*" >>@HOME@/squeue\ncat @HOME@/queue\n')
        self.install("scancel", '#!/bin/bash\necho "$*" >>@HOME@/scancel\n')
        self.install("sacct", "#!/bin/bash\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")

    def refuse(self, n: int) -> None:
        """The n-th sbatch fails."""
        (self.home / "refuse").write_text(str(n))

    def queue(self, *jobs: tuple[str, str, int, str]) -> None:
        """What squeue says: id, state, how often requeued, reason."""
        lines = [f"{job:40}{state:20}{n:<10}{reason:200}\n" for job, state, n, reason in jobs]
        (self.home / "queue").write_text("".join(lines))

    def calls(self, name: str) -> list[str]:
        """The arguments of every call of a program."""
        path = self.home / name
        return path.read_text().splitlines() if path.exists() else []

    def called(self, rank: int = 0) -> dict:
        """What lattice-flows was called with."""
        return json.loads((self.home / f"called.{rank}").read_text())

    def wait_for(self, *names: str) -> None:
        """Until these files are there."""
        until(lambda: all((self.home / name).exists() for name in names))

    def environment(self, **variables: object) -> dict[str, str]:
        """That of a process which finds these programs first."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        return {**clean, "PATH": f"{self.bin}:{clean['PATH']}", **{k: str(v) for k, v in variables.items()}}


def until(true: object, seconds: float = 60.0) -> None:
    """Wait for what must come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def _real(name: str) -> str:
    return subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
