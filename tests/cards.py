"""Small cards, and what must be equal of two runs of one."""

import os
from pathlib import Path

import h5py
import numpy as np

CLASSICAL = """
seed = 5
[theory]
name = "u1"
shape = [4, 6]
beta = 1.5

[[ensemble]]
name = "hmc"
sampler = "hmc"
n_chains = 3
n_configs = 600
n_updates = 2
n_thermalisation = 30

[[ensemble]]
name = "direct"
sampler = "direct"
n_configs = 500
store_fields = false

[[observable]]
name = "wilson_loop"
r = 1
t = 3
every = 7
"""

WITH_FLOW = """
seed = 5
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0

[flow]
name = "plaquette_coupling"
transform = "projection"
n_layers = 8
hidden = [8]

[training]
max_steps = 120
monitor_every = 40
checkpoint_seconds = 0.5

[[ensemble]]
name = "flow"
sampler = "flow_metropolis"
n_configs = 400
n_thermalisation = 20
batch_size = 300

[[ensemble]]
name = "flow_hmc"
sampler = "flow_hmc"
n_chains = 20
n_configs = 20
n_thermalisation = 3
start = "flow"

[[ensemble]]
name = "hmc"
sampler = "hmc"
n_configs = 1000
n_md_steps = 6
"""


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def contents(path: Path) -> dict[str, np.ndarray]:
    """Everything of an ensemble that must not depend on interruptions: /fields, /series, /proposals and /state."""
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, node: found.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None)
    return {name: value for name, value in found.items() if "/" in name}


def assert_same_ensemble(one: Path, other: Path) -> None:
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=f"{one} {name}")
