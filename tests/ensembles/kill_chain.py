"""Run as a program: kills a writing child again and again, checks what is left each time, then finishes.

Usage: kill_chain.py PATH N_KILLS SEED. Prints the number of configurations at the end, and what the kills left behind.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from ensembles.toy_chain import create, extend, start

from lattice_flows.ensembles import Ensemble


def work(path: Path, n_configs: int) -> None:
    """Create or resume, go on to the end, and finish now and then on the way, so that kills meet joins too."""
    if Ensemble.exists(path):
        writer = Ensemble.resume(path)
        state = writer.state()
    else:
        writer, state = create(path), start()
    while writer.n_configs < n_configs:
        state = extend(writer, state, (min(1 + writer.n_configs % 5, n_configs - writer.n_configs),))
        if writer.n_configs % 4 == 0:
            writer.finish()
            writer = Ensemble.resume(path)
    writer.finish()


def check(path: Path, before: int) -> int:
    """Whatever moment the kill met: whole, nothing lost, and the state at the end of the data."""
    if not Ensemble.exists(path):
        assert before == 0
        return 0
    with Ensemble.open(path) as ensemble:
        ensemble.verify()
        assert ensemble.n_configs >= before, f"{before} configurations were committed, {ensemble.n_configs} are left"
        np.testing.assert_array_equal(ensemble.state()["links"], ensemble.configs(0, ensemble.n_configs)[-1])
        assert int(ensemble.state()["generator/counter"]) - 2**63 == ensemble.n_configs
        return ensemble.n_configs


def seen(path: Path) -> list[str]:
    """What a kill left behind, for the report: a suite that never meets these tests less than it says."""
    segments = path.with_suffix(".segments")
    names = [entry.name for entry in segments.iterdir()] if segments.is_dir() else []
    found = {
        "a lock": path.with_suffix(".lock").exists(),
        "half a segment": any(name.endswith(".tmp") for name in names),
        "half a join": any(path.parent.glob(f"{path.name}.*.tmp")),
        "segments": any(name.endswith(".h5") for name in names),
    }
    return [what for what, there in found.items() if there]


def main(path: Path, n_kills: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    met, done = Counter(), 0
    for _ in range(n_kills):
        child = os.fork()
        if child == 0:
            work(path, 10**6)
        time.sleep(rng.uniform(0.0, 0.12))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the child failed by itself"
        met.update(seen(path))
        done = check(path, done)
    work(path, done + 5)
    print(json.dumps({"n_configs": done + 5, "met": met}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
