"""From the tables of a card to the objects they describe."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lattice_flows.actions import ACTIONS
from lattice_flows.ensembles import Ensemble, FieldSpec
from lattice_flows.errors import InputError
from lattice_flows.flows import FLOWS, Flow, initialise
from lattice_flows.kernels.random import uniforms
from lattice_flows.samplers.proposals import device_of
from lattice_flows.training import load_flow_weights
from lattice_flows.workflows.card import Card, TheoryTable, build

Array = NDArray[np.float64]
Streams = NDArray[np.uint64]


def field_spec(theory: TheoryTable, dtype: str = "float64") -> FieldSpec:
    """How configurations of the theory are stored."""
    event = theory.action.event_shape(theory.shape)
    axes = [f"x{axis}" for axis in range(len(theory.shape))]
    return FieldSpec(theory.action.space.name, tuple((["mu", *axes])[-len(event) :]), event, dtype)


def couplings_of(theory: dict[str, Any]) -> dict[str, Any]:
    """The couplings among the entries of a [theory] table."""
    return {key: value for key, value in theory.items() if key not in ("name", "shape", "boundary")}


def oracle(theory: dict[str, Any]) -> Any:
    """The closed forms of a [theory] table, or None."""
    return ACTIONS[theory["name"]](**couplings_of(theory)).exact(tuple(theory["shape"]))


def build_flow(card: Card, device: torch.device) -> Flow:
    """The card's flow before training, its weights drawn from the card's seed."""
    assert card.flow is not None
    flow = build(FLOWS[card.flow.name], card.theory, card.flow.options)
    initialise(flow, torch.Generator().manual_seed(card.seed))
    return flow.to(device)


def flow_header(card: Card) -> dict[str, Any]:
    """What a checkpoint says of the flow it holds."""
    assert card.flow is not None
    return {"theory": card.theory.as_dict(), "flow": card.flow.as_dict()}


def load_flow(card: Card, checkpoint: Path, device: torch.device) -> tuple[Flow, str]:
    """The card's trained flow, and the checksum of its weights.

    Raises InputError for a checkpoint of another theory or flow, CheckpointError for one that cannot be read.
    """
    trained = load_flow_weights(checkpoint)
    for key, wanted in flow_header(card).items():
        if (held := trained.header.get(key)) != wanted:
            raise InputError(f"{checkpoint}: was trained for {key} = {held}, the card has {wanted}")
    flow = build_flow(card, device)
    try:
        flow.load_state_dict(trained.weights)
    except RuntimeError:
        raise InputError(f"{checkpoint}: its weights do not fit the flow that it names") from None
    return flow.requires_grad_(False), trained.sha256


def start_configurations(
    theory: TheoryTable, start: str, streams: Streams, flow: Flow | None, first_chain: int = 0
) -> tuple[Array, Streams]:
    """The first configuration of every chain, (B, *event), and the advanced streams.

    start: "hot", "cold", "direct", "flow" (samples of the trained flow), or the path of an ensemble file, whose last
    configurations are dealt out in turn; first_chain: the number of the first of these chains. Raises InputError for
    anything else and for a file that does not fit.
    """
    event = theory.action.event_shape(theory.shape)
    if start == "flow":
        return _flow_samples(flow, streams)
    if start == "direct":
        draw = theory.action.direct_sampler()
        if draw is None:
            raise InputError("start = 'direct': there is no direct sampler for this theory; use 'hot' or 'cold'")
        return draw(event, streams)
    if start in ("hot", "cold"):
        u, streams = uniforms(streams, int(np.prod(event)))
        deviates = torch.from_numpy(u).view(-1, *event)  # (B, *event)
        space = theory.action.space
        return (theory.action.hot(deviates) if start == "hot" else space.cold(deviates)).numpy(), streams
    return _last_configurations(Path(start), event, range(first_chain, first_chain + len(streams))), streams


def _flow_samples(flow: Flow | None, streams: Streams) -> tuple[Array, Streams]:
    """One sample of the flow per chain; its generator is seeded by a deviate of every chain."""
    if flow is None:
        raise InputError("start = 'flow': is for samplers with a flow")
    u, streams = uniforms(streams, 1)
    words = np.random.SeedSequence([int(x * 2**52) for x in u[:, 0]]).generate_state(1, np.uint64)
    generator = torch.Generator(device_of(flow)).manual_seed(int(words[0]) >> 1)
    with torch.no_grad():
        return flow.sample(len(streams), generator).x.cpu().numpy(), streams


def _last_configurations(path: Path, event: tuple[int, ...], chains: range) -> Array:
    """A configuration for each of these chains, (B, *event): counted from the last one of an ensemble file, over all
    its chains; where there are fewer they are dealt out again.
    """
    if path.suffix != ".h5" or not Ensemble.exists(path):
        raise InputError(f"start = {str(path)!r}: is neither 'hot', 'cold', 'direct', 'flow' nor an ensemble file")
    with Ensemble.open(path) as ensemble:
        if not ensemble.has_fields or ensemble.field.shape != event:
            raise InputError(f"start = {str(path)!r}: holds no fields of shape {list(event)}")
        rows = -(-chains.stop // ensemble.n_chains)
        last = ensemble.configs(max(0, ensemble.n_configs - rows), ensemble.n_configs)
    pool = np.asarray(last[::-1], dtype=np.float64).reshape(-1, *event)  # (rows * chains, *event), the last ones first
    return pool[np.arange(chains.start, chains.stop) % len(pool)]
