"""Runs that were never made: their ensembles are made up, so that what is hard to come by is at hand.

Frozen chains, one chain, four configurations, a flow with weights of any spread.
"""

import json
import math
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from lattice_flows.card.build import field_spec, flow_header
from lattice_flows.card.card import Card, parse_card
from lattice_flows.ensembles import Block, Ensemble
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.production.train import evaluation_table
from lattice_flows.theories import ExactU1
from lattice_flows.training import CHECKPOINT_NAME
from lattice_flows.training.checkpoint import Checkpoint, save_checkpoint
from lattice_flows.training.history import Record, append_record

THEORY = '[theory]\nname = "u1"\nshape = [4, 4]\nbeta = 1.5\n# <script>alert("beta")</script> & more\n'
FLOW = '[flow]\nname = "plaquette_coupling"\n'
EXACT = ExactU1(1.5, 16)


def rng_of(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def card_of(ensembles: dict[str, str], flow: bool = False) -> Card:
    """A card with these ensembles: name -> sampler."""
    tables = [
        f'[[ensemble]]\nname = "{name}"\nsampler = "{sampler}"\nstore_fields = false\n'
        for name, sampler in ensembles.items()
    ]
    return parse_card("\n".join([THEORY, *([FLOW] if flow else []), *tables]), ["seed=7"])


def charges(name: str, n: int, n_chains: int, stay: float = 0.0) -> np.ndarray:
    """Q (n, n_chains) of the exact distribution; each is kept with probability `stay`."""
    rng = rng_of(name)
    fresh = rng.choice(np.arange(-3, 4), (n, n_chains), p=np.maximum(p := EXACT.charge_distribution(3), 0) / p.sum())
    kept = rng.random((n, n_chains)) < stay
    for i in range(1, n):
        fresh[i] = np.where(kept[i], fresh[i - 1], fresh[i])
    return fresh.astype(float)


def write(
    path: Path,
    card: Card,
    charge: np.ndarray,
    *,
    sampler: str,
    every: int = 1,
    finish: bool = True,
    charged: bool = True,
    log_w: np.ndarray | None = None,
    proposals: np.ndarray | None = None,
    name: str | None = None,
) -> None:
    """An ensemble file as `generate` writes it, with a plaquette about the exact one."""
    n, n_chains = charge.shape
    measured = [{"name": "plaquette", "every": every}]
    rng = rng_of(path.stem)
    series = {"plaquette": EXACT.plaquette + 0.1 * rng.normal(size=(-(-n // every), n_chains))}
    if charged:
        measured.append({"name": "topological_charge", "every": 1})
        series["topological_charge"] = charge
    if log_w is not None:
        series["log_w"] = log_w
    series["accepted"] = np.full((n, n_chains), 0.75)
    weighted = int(log_w is not None)
    header = {"name": name or path.stem, "theory": json.dumps(card.theory.as_dict()), "weighted": weighted,
              "sampler": json.dumps({"name": sampler, "n_updates": 1}), "observables": json.dumps(measured), "seed": 7,
              "threads": 2,
        "device": "cpu", "software": json.dumps({"python": "3.99", "torch": "9.9"}), "git_commit": "c0ffee",
              "created": "2031-05-06T07:08:09+00:00", "card": card.text, "overrides": "[]"}  # fmt: skip
    block = Block(series, {"plaquette": every}, None, {} if proposals is None else {"log_w": proposals})
    spec = field_spec(card.theory)
    with Ensemble.create(path, header=header, chains=range(n_chains), field=spec, store_fields=False) as writer:
        writer.append(block)
        writer.commit({"n": 1}, seconds=1.25)
        if finish:
            writer.finish()


def write_flow(folder: RunFolder, card: Card, spread: float) -> None:
    """A trained flow's checkpoint, history and evaluation; log weights are normal with this deviation."""
    folder.flow.mkdir(parents=True)
    write_checkpoint(folder, card)
    for step in range(1, 13):
        bound = EXACT.log_z - 30.0 * math.exp(-step / 2)
        append_record(
            folder.flow / "history.csv", Record(100 * step, 28.75 * step, -bound, step / 13, bound, 1e-3, 1.0, 1.0)
        )
    log_w = EXACT.log_z - spread**2 / 2 + spread * rng_of("weights").normal(size=(500, 4))
    charge = charges("evaluation", 500, 4)
    name = evaluation_table().name
    write(folder.evaluation, card, charge, sampler="flow_samples", log_w=log_w, proposals=log_w, name=name)


def write_checkpoint(folder: RunFolder, card: Card) -> None:
    """The checkpoint of a training at its end."""
    weights = {"w": torch.zeros(321)}
    settings, ended = asdict(card.training), "max_steps"
    held = Checkpoint(flow_header(card), settings, 7, 2, 1200, 345.0, ended, 1e3, weights, weights, {}, [])
    save_checkpoint(folder.flow / CHECKPOINT_NAME, replace(held, seed=card.seed))


def write_everything(folder: RunFolder) -> Card:
    """A poor flow, a chain it feeds, a frozen, a slow and a fast sampler."""
    card = card_of({"flow": "flow_metropolis", "stuck": "flow_hmc", "hmc": "hmc", "direct": "direct"}, flow=True)
    write_flow(folder, card, spread=4.0)
    log_w = EXACT.log_z - 8.0 + 4.0 * rng_of("proposals").normal(size=(400, 4))
    write(folder.ensemble("flow"), card, charges("flow", 400, 4, 0.9), sampler="flow_metropolis", proposals=log_w)
    stuck = np.repeat([[1.0, -2.0, 0.0]], 50, axis=0)
    write(folder.ensemble("stuck"), card, stuck, sampler="flow_hmc")
    write(folder.ensemble("hmc"), card, charges("hmc", 400, 4, 0.7), sampler="hmc", every=10)
    write(folder.ensemble("direct"), card, charges("direct", 400, 2), sampler="direct")
    return card
