"""The short form of kill_runs.py, and what its model of a power failure takes away."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from stress.power import Cache

KILLS = 8


def test_killed_runs_end_the_same_to_the_bit(tmp_path: Path, seed: int) -> None:
    """In training, sampling, writing and joining: by aimed kills, random ones and power failures."""
    script = Path(__file__).with_name("kill_runs.py")
    command = [sys.executable, str(script), "--kills", str(KILLS), "--seed", str(seed), "--jobs", "quick"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert f"{KILLS} kills in" in run.stdout


@pytest.mark.parametrize("synced", ["nothing", "the file", "all"])
def test_a_power_failure_takes_what_is_not_synced(synced: str, tmp_path: Path) -> None:
    folder, stash = tmp_path / "folder", tmp_path / "stash"
    folder.mkdir()
    stash.mkdir()
    (folder / "kept").write_text("old")
    found = set()
    for attempt in range(30):
        cache = Cache(folder, stash)
        for entry in (*stash.iterdir(), folder / "new"):
            entry.unlink(missing_ok=True)
        (folder / "kept").write_text("old")
        _replace(cache, folder, synced)
        cache.fail(random.Random(attempt))
        found.add((folder / "kept").read_text())
    names_may_go, bytes_may_go = synced != "all", synced == "nothing"
    assert ("old" in found) == names_may_go
    assert any(text not in ("old", "longer text") for text in found) == bytes_may_go
    assert "longer text" in found


def _replace(cache: Cache, folder: Path, synced: str) -> None:
    """Write a file and rename it over another, as a commit does; told to the cache, act by act."""
    new, kept = str(folder / "new"), str(folder / "kept")

    def act(name: str, path: str, *arguments: object) -> object:
        note = cache.before(name, path, arguments, {})
        result = getattr(os, name)(*arguments)
        if note:
            note()
        return result

    descriptor = act("open", new, new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    act("pwrite", new, descriptor, b"longer text", 0)
    if synced != "nothing":
        act("fsync", new, descriptor)
    os.close(descriptor)
    act("rename", new, new, kept)
    if synced == "all":
        descriptor = os.open(folder, os.O_RDONLY)
        act("fsync", str(folder), descriptor)
        os.close(descriptor)
