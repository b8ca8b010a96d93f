"""One analysis of the files of a job array: python tests/benchmarks/bench_arrays.py

1,000 files of one chain and 10,000 configurations each, as tasks of an array write them: all series of u1 and hmc, no
fields. Made through the public writer, then merged by the command as a user types it, imports included: the files
(`analyse RUN/ensembles/hmc.*.h5`), and the run with its report (`analyse RUN`). Medians over repetitions of wall
seconds and of the peak memory. Goals: files below 10 s and below 500 MiB.

Besides, what a table of scaling needs: bytes of a file for each configuration with and without fields, seconds to open
a file, to read how far 1,000 tasks are, and to analyse one file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from lattice_flows.card.build import field_spec
from lattice_flows.card.card import Card
from lattice_flows.ensembles import Block, Ensemble
from lattice_flows.production.job_array import Task, task_progress
from lattice_flows.production.run_folder import RunFolder, asked_for, claim

BETA, VOLUME, N_CONFIGS, N_FILES, REPETITIONS = 6.0, 256, 10_000, 1000, 3
TAU_ACTION, TAU_CHARGE = 3.0, 30.0
LOOPS = {"plaquette": 0.913, "wilson_loop_1x2": 0.833, "wilson_loop_2x2": 0.694}

CARD = f"""
[theory]
name = "u1"
shape = [16, 16]
beta = {BETA}
[[ensemble]]
name = "hmc"
sampler = "hmc"
n_md_steps = 10
n_chains = {{n_chains}}
n_configs = {{n_configs}}
store_fields = {{store_fields}}
"""


def autoregressive(rng: np.random.Generator, n: int, tau: float) -> np.ndarray:
    """A Gaussian chain (n,) of variance 1 with this tau_int."""
    rho = (2 * tau - 1) / (2 * tau + 1)
    noise = np.sqrt(1 - rho**2) * rng.normal(size=n)
    noise[0] /= np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], noise)


def chain_series(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """What a chain of HMC measures, each (n, 1)."""
    slow, fast = autoregressive(rng, n, TAU_CHARGE), autoregressive(rng, n, TAU_ACTION)
    series = {name: mean + 0.01 * (fast + 0.3 * rng.normal(size=n)) for name, mean in LOOPS.items()}
    series |= {
        "action": BETA * VOLUME * (1 - series["plaquette"]),
        "topological_charge": np.rint(1.9 * slow) + 1e-15 * fast,
        "accepted": (rng.random(n) < 0.8).astype(np.float64),
        "delta_h": 0.3 * rng.normal(size=n),
    }
    return {name: values[:, None] for name, values in series.items()}


def header(card: Card, task: Task) -> dict[str, str | int]:
    """The attributes that `generate` writes."""
    settings = {"name": "hmc", "n_updates": 1, "start": "hot", "n_thermalisation": 100, "n_md_steps": 10}
    return {
        "name": "hmc", "theory": json.dumps(card.theory.as_dict()), "sampler": json.dumps(settings), "weighted": 0,
        "observables": json.dumps([one.as_dict() for one in card.measurements]), "seed": 1, "threads": 1,
        "software": json.dumps({"python": "3"}), "machine": json.dumps({"cpu": "any"}), "device": "cpu",
        "git_commit": "", "created": "", "card": card.text, "overrides": "[]", "flow_sha256": "", "task": str(task),
    }  # fmt: skip


def make_file(path: Path, card: Card, chain: int, n: int, fields: bool) -> None:
    rng = np.random.default_rng([1, chain])
    spec = field_spec(card.theory, "float64")
    links = rng.uniform(-np.pi, np.pi, (n, 1, *spec.shape)) if fields else None
    told = header(card, Task(chain, card.ensemble("hmc").n_chains))
    chains = range(chain, chain + 1)
    with Ensemble.create(path, header=told, chains=chains, field=spec, store_fields=fields) as writer:
        writer.append(Block(chain_series(rng, n), fields=links))
        writer.commit({"n_thermalised": 100, "sampler/x": np.zeros((1, *spec.shape))}, seconds=60.0)
        writer.finish()


def make_run(folder: Path, n_files: int, n: int) -> tuple[RunFolder, Card]:
    (folder / "array.toml").write_text(CARD.format(n_chains=n_files, n_configs=n, store_fields="false"))
    run, card = asked_for(folder / "array.toml", folder / "run", [])
    claim(run, card)
    for chain in range(n_files):
        make_file(run.task("hmc", chain), card, chain, n, fields=False)
    return run, card


def measured(arguments: list[str]) -> tuple[float, float]:
    """Seconds and MiB of the command, from its start to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "1"}
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "lattice_flows.cli", *arguments], stdout=subprocess.DEVNULL, env=environment
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    assert process.returncode == 0
    return seconds, usage.ru_maxrss / 1024


def report(what: str, arguments: list[str], repetitions: int) -> None:
    seconds, mebibytes = zip(*(measured(arguments) for _ in range(repetitions)))
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
    print(
        f"{what:44} {statistics.median(seconds):6.2f} s ({spread}), {statistics.median(mebibytes):4.0f} MiB", flush=True
    )


def print_sizes(folder: Path) -> None:
    """Bytes of a 16x16 configuration, and of a file beside its configurations."""
    for fields in (False, True):
        text = CARD.format(n_chains=1, n_configs=1000, store_fields=str(fields).lower())
        (folder / "sizes.toml").write_text(text)
        _, card = asked_for(folder / "sizes.toml", folder / f"sizes_{fields}", [])
        sizes = {}
        for n in (1000, 2000):
            make_file(path := folder / f"sizes_{fields}_{n}.h5", card, 0, n, fields)
            sizes[n] = path.stat().st_size
        each = (sizes[2000] - sizes[1000]) / 1000
        with_fields = "with" if fields else "without"
        print(
            f"{with_fields:>7} fields: {each:.0f} bytes a configuration, {sizes[1000] - 1000 * each:.0f} a file besides"
        )


def print_times(run: RunFolder, card: Card, n_files: int) -> None:
    start = time.perf_counter()
    for chain in range(n_files):
        Ensemble.open(run.task("hmc", chain)).close()
    opening = time.perf_counter() - start
    start = time.perf_counter()
    found = task_progress(run, card.ensemble("hmc"), n_files)
    assert all(task.finished for task in found)
    print(f"opening: {1000 * opening / n_files:.2f} ms a file; task_progress: {time.perf_counter() - start:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=N_FILES)
    parser.add_argument("--configs", type=int, default=N_CONFIGS)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--folder", type=Path, help="keep the files here, and take them from here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(exist_ok=True)
        if (folder / "run").exists():
            run, card = asked_for(folder / "run", None, [])
        else:
            start = time.perf_counter()
            run, card = make_run(folder, options.files, options.configs)
            print(f"making {options.files} files: {time.perf_counter() - start:.0f} s")
        files = [str(path) for path in run.files("hmc")]
        print_sizes(Path(name))
        print_times(run, card, len(files))
        report("analyse of one file", ["analyse", files[0]], options.repetitions)
        report(f"analyse of {len(files)} files", ["analyse", *files], options.repetitions)
        report("analyse of the run, with its report", ["analyse", str(run.path)], options.repetitions)


if __name__ == "__main__":
    main()
