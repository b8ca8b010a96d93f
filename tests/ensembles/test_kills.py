"""SIGKILL at random moments, among commits and joins: nothing committed is lost, and the end is the same to the bit."""

import json
import subprocess
import sys
from pathlib import Path

from ensembles.toy_chain import contents, write

from lattice_flows.ensembles import Ensemble


def test_killed_again_and_again(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "toy.h5"
    script = Path(__file__).with_name("kill_chain.py")
    command = [sys.executable, str(script), str(path), "25", str(seed)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["met"]["a lock"] >= 5, f"too few kills met a writer at work: {report}"
    write(tmp_path / "plain.h5", (report["n_configs"],))
    assert contents(path) == contents(tmp_path / "plain.h5")
    assert Ensemble.open(path).verify()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["plain.h5", "toy.h5"]
