"""The prepared check of a GPU runs through, here at toy size on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

from cards import environment

SCRIPT = Path(__file__).with_name("on_gpu.py")
PARTS = ["machine", "chains"]  # the others take minutes


def check(tmp_path: Path, *options: str) -> tuple[int, dict]:
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--toy", "--out", str(tmp_path / "check"), *options]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    return done.returncode, json.loads((tmp_path / "check" / "check.json").read_text())


def test_the_check_runs_through(tmp_path: Path):
    status, found = check(tmp_path, "--only", *PARTS)
    assert status == 0, found
    assert list(found) == PARTS
    assert abs(found["chains"]["flow_metropolis_plaquette_pull"]) < 6


def test_a_part_that_fails_is_one_of_the_figures(tmp_path: Path):
    status, found = check(tmp_path, "--only", "machine", "torchrun", "--seconds", "0")
    assert status == 1
    assert found["torchrun"]["error"] == "TimeoutError: no time left"
