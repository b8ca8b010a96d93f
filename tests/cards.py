"""Small cards, and what must be equal of two runs of one."""

import os
from collections.abc import Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from lattice_flows.card.card import Card
from lattice_flows.production.generate import generate, generate_at
from lattice_flows.production.produce import Pace
from lattice_flows.production.run_folder import RunFolder, asked_for, claim
from lattice_flows.stages import run
from lattice_flows.terminal.interrupt import Stopped, StopRequest

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


def claimed(source: Path, out: Path | None, overrides: Sequence[str] = ()) -> tuple[RunFolder, Card]:
    """The run of a card in its folder, which is claimed."""
    folder, card = asked_for(source, out, overrides)
    return folder, claim(folder, card)


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


ARSENAL = """
seed = 6
[theory]
name = "u1"
shape = [4, 6]
beta = 2.0
"""

ARSENAL_SAMPLERS = {
    "heatbath": 'sampler = "heatbath"',
    "metropolis": 'sampler = "metropolis"',
    "omelyan": 'sampler = "hmc"\nintegrator = "omelyan"',
    "blocks": 'sampler = "flow_blocks"',
    "annealed": 'sampler = "annealed"\nn_steps = 5\ninitial = {beta = 0.7}\nkernel = {sampler = "heatbath"}',
    "smc": 'sampler = "smc"\nn_particles = 2\nn_steps = 5\ninitial = {beta = 0.7}\nkernel = {sampler = "heatbath"}',
    "localised": 'sampler = "localised"',
    "winding": 'sampler = "winding_hmc"\nn_windings = 2',
    "mixture": 'sampler = "mixture"\nparts = [{sampler = "hmc"}, {sampler = "instanton", n_updates = 3}]',
    "tempering": 'sampler = "tempering"\nlast = 0.5\nn_replicas = 3\nreplica = {sampler = "hmc"}',
    "metadynamics": 'sampler = "metadynamics"',
    "parallel": 'sampler = "replica_exchange"\nparts = [{sampler = "hmc"}, {sampler = "metadynamics"}]',
    "umbrella": 'sampler = "umbrella"\nn_windows = 2\nq_max = 0.5\nspring = 4.0',
}

SCALAR = """
seed = 7
[theory]
name = "phi4"
shape = [4, 3, 2]
m2 = -1.0
lam = 1.0
"""

SCALAR_SAMPLERS = {
    "hmc": 'sampler = "hmc"',
    "fourier": 'sampler = "fourier_hmc"\nmass_squared = 0.5\nstart = "cold"',
    "local": 'sampler = "mixture"\nparts = [{sampler = "heatbath"}, {sampler = "cluster", n_updates = 2}]',
    "reflections": 'sampler = "mixture"\nparts = [{sampler = "overrelaxation"}, {sampler = "metropolis"}]',
    "tempering": 'sampler = "tempering"\ncoupling = "m2"\nvalues = [-1.0, 0.0]\nreplica = {sampler = "heatbath"}',
}


def with_ensembles(theory: str, samplers: dict[str, str], n_configs: int) -> str:
    """The card of these ensembles, two chains each."""
    tables = [
        f'\n[[ensemble]]\nname = "{name}"\nn_chains = 2\nn_configs = {n_configs}\nn_thermalisation = 40\n{text}\n'
        for name, text in samplers.items()
    ]
    return theory + "".join(tables)


def set_pace(patch, **seconds):
    """Let the stages look up from their work as often as `Pace` says."""
    pace = Pace(**seconds)
    patch.setattr("lattice_flows.stages.generate", partial(generate, pace=pace))
    patch.setattr("lattice_flows.production.train.generate_at", partial(generate_at, pace=pace))


def interrupted_runs(card, out, patch, rng, most_looks=60):
    """Run until finished, each time stopped after a random number of looks at the stop request."""
    stops = 0
    while True:
        looks = rng.randint(1, most_looks)

        class After(StopRequest):
            def __call__(self):
                nonlocal looks
                looks -= 1
                if looks <= 0:
                    self.signal = "TEST"
                return looks <= 0

        @contextmanager
        def stop_after():
            yield After()

        patch.setattr("lattice_flows.stages.stop_on_signals", stop_after)
        patch.setattr("lattice_flows.stages.write_report", lambda *_: None)  # it is not looked at
        try:
            run(card, out)
            return stops
        except Stopped:
            stops += 1
