"""Configurations for a training: drawn directly, or from an ensemble file."""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.card.card import TheoryTable
from lattice_flows.card.sources import DIRECT, check_data, existing_ensemble
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.flows import drawn_streams
from lattice_flows.production.header import chains_of
from lattice_flows.production.header_check import check_header
from lattice_flows.production.origin import Origin
from lattice_flows.theories.action import DirectSampler
from lattice_flows.training import DataError, Source, check_configurations

HELD_OUT = 0.1  # of an ensemble, its end: to judge by, not to learn from
_GAP = 0.05  # left out before them: neighbours in a chain are nearly the same configuration
_FEWEST = 100


class TrainingData(NamedTuple):
    """Two sources of configurations, and an identifier of the data (JSON-able)."""

    learn: Source
    held_out: Source
    identity: str


@dataclass(frozen=True)
class DirectData(Source):
    """A source of fresh independent configurations at every call."""

    direct: DirectSampler
    event: tuple[int, ...]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw (n, *event), from random streams with keys from the generator."""
        return torch.from_numpy(self.direct.draw(self.event, drawn_streams(n, generator))[0])


@dataclass(frozen=True)
class StoredData(Source):
    """A source that draws from configurations x (N, *event) with equal probability."""

    x: Tensor

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw (n, *event)."""
        at = torch.randint(len(self.x), (n,), generator=generator, device=generator.device)
        return self.x[at.to(self.x.device)]


@dataclass(frozen=True)
class HeldOutData(Source):
    """Configurations x (N, *event) from the end of an ensemble, for evaluation: each is used at most once."""

    x: Tensor

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """At most n configurations, evenly spaced: (m, *event). They are correlated like their chains."""
        return self.x[:: -(-len(self.x) // n)]


def training_data(
    source: str, theory: TheoryTable, most_bytes: int = 512 << 20, block_bytes: int = 16 << 20
) -> TrainingData:
    """The training data that `training.data` = "direct" or an ensemble file stands for in this theory.

    most_bytes: limit for configurations in memory; of longer ensembles every k-th one is taken.
    block_bytes: amount read at once.

    Raises InputError if the theory has no direct sampler, and for a file that is not an unweighted ensemble of this
    very theory, stores no fields, or holds invalid configurations; EnsembleError for a broken one.
    """
    where = f"training.data = {source!r}"
    check_data(source, theory.action, where)
    if source == DIRECT:
        direct = theory.action.direct_sampler()
        assert direct is not None
        data = DirectData(direct, theory.action.event_shape(theory.shape))
        return TrainingData(data, data, DIRECT)
    with Ensemble.open(existing_ensemble(source, where)) as ensemble:
        _check(ensemble, theory, where)
        rows, step = _rows(ensemble, most_bytes, block_bytes)
        chains = chains_of(ensemble.attributes)
    x = rows.reshape(-1, *rows.shape[2:])  # (n * B, *event)
    try:
        check_configurations(torch.from_numpy(x), theory.action.space, theory.action.event_shape(theory.shape), where)
    except DataError as error:
        raise InputError(str(error)) from None
    n_held_out, gap = math.ceil(HELD_OUT * len(rows)), int(_GAP * len(rows))
    n_learn = len(rows) - n_held_out - gap
    learn = StoredData(torch.from_numpy(x[: n_learn * rows.shape[1]]))
    held_out = HeldOutData(torch.from_numpy(x[-n_held_out * rows.shape[1] :]))
    digest = hashlib.sha256(x.data).hexdigest()
    return TrainingData(learn, held_out, f"every {step} of sha256 {digest}, chains {chains}")


def check_training_data(source: str, theory: TheoryTable) -> None:
    """Raise InputError as `training_data` would, except for what only the configurations themselves show."""
    where = f"training.data = {source!r}"
    check_data(source, theory.action, where)
    if source != DIRECT:
        with Ensemble.open(existing_ensemble(source, where)) as ensemble:
            _check(ensemble, theory, where)


def _check(ensemble: Ensemble, theory: TheoryTable, where: str) -> None:
    check_header(ensemble)
    origin = Origin(ensemble.attributes)
    held = origin.theory
    if held != json.loads(json.dumps(theory.as_dict())):
        raise InputError(f"{where}: was made for the theory {held}, but the card has {theory.as_dict()}")
    if not ensemble.has_fields:
        raise InputError(f"{where}: stores no fields; generate it with store_fields = true")
    if origin.weighted:
        raise InputError(f"{where}: its configurations are weighted; training needs an ensemble of equal weights")
    n = ensemble.n_configs * ensemble.n_chains
    if ensemble.n_configs < 2 or n < _FEWEST:
        raise InputError(f"{where}: holds {n} configurations; at least {_FEWEST} are needed, and 2 of each chain")


def _rows(ensemble: Ensemble, most_bytes: int, block_bytes: int) -> tuple[NDArray[np.float64], int]:
    """Every step-th configuration of all chains, (n, B, *event)."""
    row = ensemble.n_chains * math.prod(ensemble.field.shape) * np.dtype(np.float64).itemsize
    step = -(-ensemble.n_configs * row // most_bytes)
    blocks = []
    for start, block in ensemble.blocks(block_bytes):
        blocks.append(block[-start % step :: step].astype(np.float64))
    return np.concatenate(blocks), step
