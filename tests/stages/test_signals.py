"""Every signal, in every stage: all is saved, status 75, the run goes on to the same bits. One writer at a time."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cards import CLASSICAL, environment

from lattice_flows.ensembles import Ensemble
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.terminal.interrupt import stop_on_signals

SLOWEST = 30.0  # seconds; on a machine with other work, too
LONG = '\n[[ensemble]]\nname = "long"\nsampler = "hmc"\nn_md_steps = 4\nn_configs = 100000000\n'


def test_every_signal_saves_everything_and_exits_with_75():
    """Real processes of one run; the program itself holds its end against a run that was never stopped."""
    program = Path(__file__).parents[1] / "stress" / "signal_runs.py"
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name for stop in found for name in stop["signals"]} == {
        "SIGTERM",
        "SIGINT",
        "SIGHUP",
        "SIGUSR1",
        "SIGUSR2",
    }
    for stop in found:
        assert stop["stage"] != "never met", found
        assert stop["seconds"] < SLOWEST
        if stop["stage"] == "report":  # no more than seconds are left, and they end as ever
            assert stop["status"] == 0, stop
            continue
        assert stop["status"] == 75, stop
        (line,) = stop["errors"].splitlines()
        said = f"stopped by {stop['signals'][0]}; everything is saved"
        at_once = "stopped at once; what was committed is safe"
        assert said in line or (len(stop["signals"]) == 2 and at_once in line)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_second_interrupt_stops_at_once(first):
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals() as stop:
        assert not stop()
        os.kill(os.getpid(), first)
        assert stop()
        assert stop.signal == first.name
        os.kill(os.getpid(), signal.SIGTERM)  # Slurm sends more than one
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_one_process_at_a_time(card, lattice_flows, tmp_path):
    """The second is told who is at work; a process that is killed blocks nobody."""
    path, out = card(CLASSICAL + LONG), tmp_path / "out"
    command = [sys.executable, "-m", "lattice_flows.cli", "run", str(path), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()) as process:
        deadline = time.monotonic() + 120
        long = RunFolder(out).ensemble("long")
        while not Ensemble.exists(long) and time.monotonic() < deadline:
            time.sleep(0.05)
        for arguments in (("run", out), ("sample", out, "--ensemble", "long")):
            status, _, errors = lattice_flows(*arguments)
            assert status == 2
            (line,) = errors.splitlines()
            assert re.search(rf"long\.h5: process {process.pid} on {os.uname().nodename} is writing", line), line
        process.kill()
    assert long.with_suffix(".lock").exists()
    with Ensemble.open(long) as ensemble:
        held = ensemble.n_configs
        assert held > 0
        assert not ensemble.finished
        ensemble.verify()
    with Ensemble.resume(long) as writer:
        assert writer.n_configs == held
