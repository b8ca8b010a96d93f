"""The start of chains: hot, cold, directly drawn, from a flow, from the end of an ensemble or a lone configuration."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lattice_flows.card.card import TheoryTable
from lattice_flows.card.sources import DIRECT, FLOW, ONE_CONFIGURATION, check_start, existing_ensemble
from lattice_flows.ensembles import Ensemble, FieldSpec
from lattice_flows.ensembles.finite import where_not_finite
from lattice_flows.errors import InputError
from lattice_flows.flows import Proposer
from lattice_flows.kernels.random import uniforms
from lattice_flows.production.foreign_numbers import ForeignNumbers, mapped_npy
from lattice_flows.production.header_check import check_header
from lattice_flows.regular_files import at_home, open_regular
from lattice_flows.samplers.proposals import device_of

Array = NDArray[Any]
Streams = NDArray[np.uint64]


def start_configurations(
    theory: TheoryTable, start: str, streams: Streams, flow: Proposer | None, first_chain: int = 0
) -> tuple[Array, Streams]:
    """The first configuration of every chain, (B, *event), and the advanced streams.

    start: "hot", "cold", "direct", "flow" (samples of the trained flow), or the path of an ensemble file, whose last
    configurations are assigned to chains in turn, or of an .npy file, whose one configuration all chains begin with;
    first_chain: the number of the first of these chains. Raises InputError for anything else and for a file that does
    not fit.
    """
    check_start(start, theory.action, flow is not None)
    field = theory.action.field(theory.shape)
    event = field.shape
    if start == FLOW:
        assert flow is not None
        return _flow_samples(flow, streams)
    if start == DIRECT:
        direct = theory.action.direct_sampler()
        assert direct is not None
        return direct.draw(event, streams)
    if start == "hot":
        return theory.action.hot(streams, event)
    if start == "cold":
        _, streams = uniforms(streams, int(np.prod(event)))  # as older versions did: their chains begin here
        return np.broadcast_to(theory.action.cold(event), (len(streams), *event)), streams
    if Path(start).suffix == ONE_CONFIGURATION:
        return np.broadcast_to(_lone_configuration(theory, start), (len(streams), *event)), streams
    chains = range(first_chain, first_chain + len(streams))
    return _last_configurations(start, field, chains).astype(field.dtype), streams


def check_start_file(theory: TheoryTable, start: str) -> None:
    """Raise InputError if `start` names a file in which no chain can begin."""
    if Path(start).suffix == ONE_CONFIGURATION:
        _lone_configuration(theory, start)
    elif Path(start).suffix == ".h5":
        with _opened(start, theory.action.field(theory.shape)):
            pass


def start_checksum(start: str) -> str:
    """The checksum of the file that `start` names, by which an ensemble says what it began from; "" for any other."""
    if Path(start).suffix == ".h5":
        with Ensemble.open(existing_ensemble(start, f"start = {start!r}")) as ensemble:
            return ensemble.sha256
    if Path(start).suffix == ONE_CONFIGURATION:
        try:
            with open_regular(at_home(start)) as file:
                return hashlib.sha256(file.read()).hexdigest()
        except OSError as error:
            where = "" if Path(start).is_absolute() else "; the path is one from the folder where the command is given"
            raise InputError(f"start = {start!r}: {error.strerror}{where}") from None
    return ""


@contextmanager
def _opened(start: str, field: FieldSpec) -> Iterator[Ensemble]:
    """The ensemble file, whose configurations are such fields."""
    told = f"start = {start!r}"
    with Ensemble.open(existing_ensemble(start, told)) as ensemble:
        check_header(ensemble)
        if not ensemble.has_fields or (ensemble.field.name, ensemble.field.shape) != (field.name, field.shape):
            raise InputError(f"{told}: holds no fields of shape {list(field.shape)} called {field.name}")
        if ensemble.n_configs == 0:
            raise InputError(f"{told}: holds no configuration yet")
        yield ensemble


def _lone_configuration(theory: TheoryTable, start: str) -> Array:
    """The configuration (*event) in an .npy file, with the same freedom and the same checks as in an import."""
    told, field = f"start = {start!r}", theory.action.field(theory.shape)
    numbers = ForeignNumbers.of(field, theory.action.space)
    found = mapped_npy(at_home(start))
    if found.shape != field.shape:
        raise InputError(f"{told}: has the shape {list(found.shape)}; a configuration has {list(field.shape)}")
    try:
        numbers.check_type(found.dtype)
        x = numbers.read(found[None, None])  # (1, 1, *event)
    except ValueError as error:
        raise InputError(f"{told}: {error}") from None
    numbers.wrap_angles(x)
    return x[0, 0].astype(field.dtype)


def _flow_samples(flow: Proposer, streams: Streams) -> tuple[Array, Streams]:
    """One sample of the flow per chain; its generator is seeded by a random number from every chain."""
    u, streams = uniforms(streams, 1)
    words = np.random.SeedSequence([int(x * 2**52) for x in u[:, 0]]).generate_state(1, np.uint64)
    generator = torch.Generator(device_of(flow)).manual_seed(int(words[0]) >> 1)
    with torch.no_grad():
        return flow.sample(len(streams), generator).x.cpu().numpy(), streams


def _last_configurations(start: str, field: FieldSpec, chains: range) -> Array:
    """A configuration for each of these chains, (B, *event), counted backwards from the last one of an ensemble file
    over all its chains; if there are too few, they are used again.
    """
    with _opened(start, field) as ensemble:
        rows = -(-chains.stop // ensemble.n_chains)
        last = ensemble.configs(max(0, ensemble.n_configs - rows), ensemble.n_configs)
        numbers = np.arange(ensemble.n_configs - len(last), ensemble.n_configs)
        flat = last.reshape(*last.shape[:2], -1).sum(axis=2)  # not finite where one number is not
        if told := where_not_finite(field.name, flat, numbers, ensemble.first_chain):
            raise InputError(f"start = {start!r}: {field.name} {told}; no chain can begin there")
    pool = last[::-1].reshape(-1, *field.shape)  # (rows * chains, *event), the last ones first
    return pool[np.arange(chains.start, chains.stop) % len(pool)]
