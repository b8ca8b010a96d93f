"""What storing costs beside sampling, and how fast fields are read: python tests/benchmarks/bench_ensembles.py

HMC of 16x16 U(1) at beta = 6 on one thread, one chain, n_updates = 10, in the rhythm of a run: blocks of 0.2 s, a
commit each 5 s or 64 MB. The cost of a commit counts everything: checksums, copy, fsync, rename, and the look at the
new file. Then the join (verify, copy, checksum, fsync), the opening of many segments, and 100,000 configurations read
in blocks of 1000 from a warm page cache. Medians over repetitions. Goals: commits of uncompressed float64 < 15 % of the
sampling time; reading >= 500 MB/s.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy is imported

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from lattice_flows.ensembles import Block, Ensemble, EnsembleWriter, FieldSpec
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import HMC
from lattice_flows.samplers.state_arrays import flatten
from lattice_flows.theories import WilsonU1, sample_u1

BETA, SIZE, N_MD_STEPS, N_UPDATES = 6.0, 16, 10, 10
BLOCK_SECONDS, COMMIT_SECONDS, PENDING_BYTES = 0.2, 5.0, 64 << 20
VARIANTS = [("float64", "none"), ("float32", "none"), ("float64", "gzip"), ("float32", "gzip")]
N_READ, READ_BLOCK, N_SEGMENTS = 100_000, 1000, 500
HEADER = {"card": "# as long as a card is\n" * 60, "seed": 1}


@dataclass
class Cost:
    """Seconds, and bytes of fields as they are stored without compression."""

    sampling: float = 0.0
    commits: float = 0.0
    join: float = 0.0
    n_commits: int = 0
    n_configs: int = 0
    file_bytes: int = 0


def field(dtype: str) -> FieldSpec:
    return FieldSpec("theta", ("mu", "x0", "x1"), (2, SIZE, SIZE), dtype)


def create(path: Path, dtype: str, compression: str) -> EnsembleWriter:
    return Ensemble.create(
        path, header=HEADER, chains=range(1), field=field(dtype), store_fields=True, compression=compression
    )


def stored_run(path: Path, dtype: str, compression: str, seconds: float) -> Cost:
    """A run of so many seconds of sampling."""
    sampler, cost = HMC(WilsonU1(BETA), 1.0, N_MD_STEPS), Cost()
    state = sampler.init(*sample_u1(BETA, SIZE, SIZE, make_streams(1, "bench", range(1))))
    state, _ = sampler.step(state, N_UPDATES)
    since, pending = 0.0, 0
    with create(path, dtype, compression) as writer:
        while cost.sampling < seconds:
            start = time.perf_counter()
            x = []
            while time.perf_counter() - start < BLOCK_SECONDS:
                state, _ = sampler.step(state, N_UPDATES)
                x.append(state.x)
            fields = np.stack(x)
            action = sampler.action.evaluate(fields.reshape(-1, *fields.shape[2:])).reshape(fields.shape[:2])
            elapsed = time.perf_counter() - start
            cost.sampling, since, pending = cost.sampling + elapsed, since + elapsed, pending + fields.nbytes
            writer.append(Block({"action": action}, {}, fields.astype(dtype, copy=False)))
            if since > COMMIT_SECONDS or pending > PENDING_BYTES or cost.sampling >= seconds:
                start = time.perf_counter()
                writer.commit(flatten(state, "sampler/"), seconds=since)
                cost.commits += time.perf_counter() - start
                cost.n_commits, since, pending = cost.n_commits + 1, 0.0, 0
        cost.n_configs = writer.n_configs
        start = time.perf_counter()
        writer.finish()
        cost.join = time.perf_counter() - start
    cost.file_bytes = path.stat().st_size
    return cost


def print_costs(folder: Path, seconds: float, repetitions: int) -> None:
    print("dtype    compression  configs/s  bytes/config  commits %  (range)      MB/s committed  join %  MB/s joined")
    for dtype, compression in VARIANTS:
        costs = []
        for repetition in range(repetitions):
            path = folder / f"{dtype}_{compression}_{repetition}.h5"
            costs.append(stored_run(path, dtype, compression, seconds))
            path.unlink()
        shares = [100 * cost.commits / cost.sampling for cost in costs]
        config_bytes = 2 * SIZE**2 * np.dtype(dtype).itemsize / 1e6
        print(
            f"{dtype:8} {compression:11}"
            f"{statistics.median(cost.n_configs / cost.sampling for cost in costs):11.0f}"
            f"{statistics.median(cost.file_bytes / cost.n_configs for cost in costs):14.0f}"
            f"{statistics.median(shares):11.2f}  ({min(shares):.2f} to {max(shares):.2f})"
            f"{statistics.median(cost.n_configs * config_bytes / cost.commits for cost in costs):16.0f}"
            f"{statistics.median(100 * cost.join / cost.sampling for cost in costs):8.2f}"
            f"{statistics.median(cost.n_configs * config_bytes / cost.join for cost in costs):13.0f}",
            flush=True,
        )


def print_reading(folder: Path, repetitions: int) -> None:
    print(f"\n{N_READ} configurations in blocks of {READ_BLOCK}, warm page cache (MB of the stored dtype)")
    rng = np.random.default_rng(1)
    for dtype, compression in VARIANTS:
        path = folder / f"read_{dtype}_{compression}.h5"
        with create(path, dtype, compression) as writer:
            for _ in range(N_READ // 10_000):
                fields = rng.uniform(-np.pi, np.pi, (10_000, 1, 2, SIZE, SIZE)).astype(dtype)
                writer.append(Block({"action": np.zeros((10_000, 1))}, {}, fields))
                writer.commit({}, seconds=1.0)
            writer.finish()
        rates = []
        for _ in range(repetitions):
            start = time.perf_counter()
            with Ensemble.open(path) as ensemble:
                n_bytes = sum(ensemble.configs(at, at + READ_BLOCK).nbytes for at in range(0, N_READ, READ_BLOCK))
            rates.append(n_bytes / (time.perf_counter() - start) / 1e6)
        print(f"{dtype:8} {compression:6}{statistics.median(rates):8.0f} MB/s  ({min(rates):.0f} to {max(rates):.0f})")
        path.unlink()


def print_opening(folder: Path, repetitions: int) -> None:
    path = folder / "many.h5"
    fields = np.zeros((20, 1, 2, SIZE, SIZE))
    opening, nothing, one = [], [], []
    with create(path, "float64", "none") as writer:

        def commit() -> None:
            writer.append(Block({name: np.zeros((20, 1)) for name in ("action", "plaquette", "accepted")}, {}, fields))
            writer.commit({"x": fields[0], "streams": np.zeros((1, 2))}, seconds=1.0)

        for _ in range(N_SEGMENTS):
            commit()
        for _ in range(repetitions):
            start = time.perf_counter()
            reader = Ensemble.open(path)
            opened = time.perf_counter()
            reader.refresh()
            nothing.append(time.perf_counter() - opened)
            opening.append(opened - start)
            commit()
            start = time.perf_counter()
            assert reader.refresh()
            one.append(time.perf_counter() - start)
    print(f"\n{N_SEGMENTS} segments: open {1e3 * statistics.median(opening) / N_SEGMENTS:.2f} ms each;", end=" ")
    print(f"refresh {1e3 * statistics.median(nothing):.1f} ms, with a new one {1e3 * statistics.median(one):.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; a temporary one unless given")
    parser.add_argument("--seconds", type=float, default=20.0, help="of sampling in each run")
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    numba.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        print_costs(Path(name), arguments.seconds, arguments.repetitions)
        print_reading(Path(name), arguments.repetitions)
        print_opening(Path(name), arguments.repetitions)


if __name__ == "__main__":
    main()
