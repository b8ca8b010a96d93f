"""A deterministic chain to store, and ways of storing it that must all give the same ensemble."""

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from lattice_flows.ensembles import Block, Ensemble, EnsembleWriter, FieldSpec, multiples

FIELD = FieldSpec("theta", ("mu", "x0", "x1"), (2, 4, 4))
CHAINS = range(2, 5)
HEADER = {
    "theory": '{"name": "u1"}',
    "card": "beta = 6.0  # β\n",
    "seed": 2**64 - 1,
    "threads": 2,
    "beta": 6.0,
    "note": "",
}
EVERY = {"wilson_loop": 3}

State = dict[str, np.ndarray]


def start() -> State:
    angles = np.linspace(-3, 3, 3 * 32).reshape(3, 2, 4, 4)
    return {
        "links": angles,
        "generator/counter": np.array(2**63, np.uint64),
        "generator/spare": np.array([True, False]),
    }


def run(state: State, first_config: int, n: int) -> tuple[Block, State]:
    """n configurations from this number on, and the state after them. Each has (its number mod 3) proposals."""
    x, counter = state["links"], state["generator/counter"]
    fields, log_w = [], []
    for config in range(first_config, first_config + n):
        x = (1.7 * x + 0.1 * np.arange(3).reshape(3, 1, 1, 1) + 3.1) % 6.2 - 3.1
        counter = counter + np.uint64(1)
        fields.append(x)
        log_w += [x.sum(axis=(1, 2, 3)) * k for k in range(config % 3)]
    stored = np.array(fields).reshape(n, 3, 2, 4, 4)
    wanted = multiples(first_config, first_config + n, EVERY["wilson_loop"]) - first_config
    series = {
        "action": stored.sum(axis=(2, 3, 4)),
        "topological_charge": np.rint(stored[:, :, 0, 0, 0]).astype(np.int64),
        "wilson_loop": np.cos(stored[wanted, :, 1, 0, 0]),
    }
    block = Block(series, EVERY, stored, {"log_w": np.array(log_w).reshape(-1, 3)})
    return block, {**state, "links": x, "generator/counter": counter}


def create(path: Path) -> EnsembleWriter:
    return Ensemble.create(path, header=HEADER, chains=CHAINS, field=FIELD, store_fields=True)


def extend(writer: EnsembleWriter, state: State, sizes: Iterable[int]) -> State:
    """Append and commit blocks of these sizes."""
    for n in sizes:
        block, state = run(state, writer.n_configs, n)
        writer.append(block)
        writer.commit(state, seconds=0.25)
    return state


def write(path: Path, sizes: Iterable[int], finish: bool = True) -> None:
    with create(path) as writer:
        extend(writer, start(), sizes)
        if finish:
            writer.finish()


def contents(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """All that "bit-identical" is about, read by plain h5py from a finished file."""
    found = {}

    def collect(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item.dtype.str, item.shape, item[()].tobytes()

    with h5py.File(path) as file:
        for group in {"fields", "series", "proposals", "state"} & file.keys():
            file[group].visititems(lambda name, item, group=group: collect(f"{group}/{name}", item))
    return found
