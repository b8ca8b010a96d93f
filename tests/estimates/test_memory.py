"""A file far larger than memory allows: its analysis streams."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
from cards import CLASSICAL, environment
from scipy.signal import lfilter

from lattice_flows.ensembles import Block, Ensemble, FieldSpec
from lattice_flows.ensembles.layout import RESERVED
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import run

N_CONFIGS = 5_000_000
FIELD = FieldSpec("theta", ("mu", "x0", "x1"), (2, 16, 16))
GIB = 2**30


def write_large(path: Path, header: dict, rng: np.random.Generator) -> None:
    """One chain of 5,000,000 configurations of 16x16: series as of a chain, and 20 GB of fields that are a hole."""
    noise = [lfilter([1.0], [1.0, -rho], rng.normal(size=(N_CONFIGS, 1)), axis=0) for rho in (0.5, 0.9)]
    series = {
        "action": 50.0 + noise[0],
        "plaquette": 0.7 + 0.01 * noise[0],
        "topological_charge": np.rint(noise[1]),
    }
    with Ensemble.create(path, header=header, chains=range(1), field=FIELD, store_fields=False) as writer:
        writer.append(Block(series=series))
        writer.commit({"n_thermalised": 0}, seconds=1.0)
        writer.finish()
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        shape = (N_CONFIGS, 1, *FIELD.shape)
        file.create_dataset("fields/theta", shape, "f8", chunks=(256, 1, *FIELD.shape), dcpl=properties)
        for name, length in zip(FIELD.dims, FIELD.shape):
            file.create_dataset(name, data=np.arange(length))


def test_the_analysis_of_20_gb_stays_below_1_gib(card, tmp_path, rng):
    run(card(CLASSICAL), tmp_path / "run", ["ensemble.hmc.n_configs=20", "ensemble.direct.n_configs=20"])
    with Ensemble.open(RunFolder(tmp_path / "run").ensemble("hmc")) as small:
        header = {key: value for key, value in small.attributes.items() if key not in RESERVED}
    header |= {"theory": json.dumps({**json.loads(header["theory"]), "shape": [16, 16]})}
    tables = json.loads(header["observables"])
    header |= {"observables": json.dumps([table for table in tables if table["every"] == 1])}
    path = tmp_path / "large.h5"
    write_large(path, header, rng)
    status = path.stat()
    assert status.st_size > 20e9
    assert status.st_blocks * 512 < 1e9, "the file system keeps no holes, so this file takes 20 GB"
    command = [sys.executable, "-c", MEASURED, str(path), str(tmp_path / "summary.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.splitlines()[-1])
    assert peak < GIB, f"{peak / 2**20:.0f} MiB"
    summary = json.loads((tmp_path / "summary.json").read_text())
    (ensemble,) = summary["ensembles"].values()
    assert ensemble["n_configs"] == N_CONFIGS
    row = ensemble["observables"]["plaquette"]
    assert abs(row["tau_int"] - 1.5) < 5 * row["tau_int_error"]  # AR(1) with 1/2


MEASURED = """
import sys
from pathlib import Path
from lattice_flows.cli import main
sys.argv = ["lattice-flows", "analyse", sys.argv[1], "--json", sys.argv[2]]
try:
    main()
finally:  # not getrusage, whose maximum is inherited from the process that started this one
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(int(line.split()[1]) * 1024)
"""
