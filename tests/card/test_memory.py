"""What a card needs is counted before anything is made: what no memory holds is refused in one line, at once."""

import time

import pytest
import torch
from cards import CLASSICAL, WITH_FLOW
from torch.autograd.graph import saved_tensors_hooks

from lattice_flows.card import memory
from lattice_flows.card.card import parse_card
from lattice_flows.card.memory import require_memory_for_chains, require_memory_for_training
from lattice_flows.errors import InputError
from lattice_flows.exit_status import EXIT_FAILURE, exit_status
from lattice_flows.flows import CheckerboardFlow, FlowPlan, HybridFlow, MultiscaleFlow, PlaquetteCouplingFlow
from lattice_flows.flows.kept import Kept
from lattice_flows.flows.size import size_of
from lattice_flows.memory import free_memory, in_words
from lattice_flows.theories.phi4.action import Phi4
from lattice_flows.theories.u1.action import WilsonU1

CPU = torch.device("cpu")
BIASED = CLASSICAL.replace('sampler = "hmc"', 'sampler = "{}"')
MANY_CHAINS = BIASED.format("metadynamics").replace("n_chains = 3", "n_chains = 30")
SELF = WITH_FLOW.replace("max_steps = 120", 'max_steps = 120\nobjective = "self_normalised"')
GROUPS = WITH_FLOW.replace("max_steps = 120", 'max_steps = 120\nobjective = "dreg"')
PLANS = [
    PlaquetteCouplingFlow((4, 8), n_layers=3, hidden=(5,)),
    PlaquetteCouplingFlow((4, 4), n_layers=2, transform="spline"),
    MultiscaleFlow((4, 6), WilsonU1(2.0)),
    CheckerboardFlow((4, 4), Phi4(m2=-1.0, lam=2.0), n_layers=2),
    CheckerboardFlow((4, 4), Phi4(m2=-1.0, lam=2.0), n_layers=2, transform="affine", prior="gaussian"),
]


def require_all(text: str, override: str) -> None:
    card = parse_card(text, [override])
    if card.flow is not None:
        require_memory_for_training(card, CPU)
    for table in card.ensembles:
        require_memory_for_chains(card, table, table.n_chains)


def test_ordinary_cards_pass_and_their_flow_is_not_built() -> None:
    for text in (CLASSICAL, WITH_FLOW):
        require_all(text, "seed=1")
    card = parse_card(WITH_FLOW)
    require_memory_for_training(card, CPU)
    assert card.flow is not None
    assert "built_flow" not in vars(card.flow)


@pytest.mark.parametrize(
    ("text", "override", "told"),
    [
        (WITH_FLOW, "flow.hidden=[10000, 10000, 10000, 10000, 10000, 10000]", r"\[flow\].*hidden = 6 of up to 10000"),
        (WITH_FLOW, "training.batch_size=10000000", r"batch_size = 10000000 .*training.micro_batch"),
        (WITH_FLOW, "training.final_batch_size=10000000", "final_batch_size = 10000000"),
        (WITH_FLOW, "training.monitor_samples=1000000000", "monitor_samples = 1000000000"),
        (GROUPS, "training.group_size=1000000", "batch_size = 64, group_size = 1000000 .*training.micro_batch"),
        (SELF, "training.buffer_size=1000000000", "buffer_size = 1000000000"),
        (WITH_FLOW, "ensemble.flow.batch_size=10000000", r"\[\[ensemble\]\] flow: .*batch_size = 10000000"),
        (CLASSICAL, "ensemble.hmc.n_chains=100000", "n_chains = 100000"),
        (CLASSICAL, "theory.shape=[4096, 4096]", "on 4096 x 4096 sites"),
        (MANY_CHAINS, "ensemble.hmc.n_grid=100000", "n_grid = 100000"),
    ],
)
def test_what_no_memory_holds_is_told_with_its_key(monkeypatch, text: str, override: str, told: str) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 3_000_000)
    before = time.monotonic()
    with pytest.raises(InputError, match=told) as refused:
        require_all(text, override)
    assert "at least" in str(refused.value)
    assert "3 MB are free" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert time.monotonic() - before < 60


def test_a_micro_batch_bounds_the_gradient(monkeypatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 100_000_000)
    require_all(WITH_FLOW.replace("max_steps", "micro_batch = 100\nmax_steps"), "training.batch_size=10000000")


def test_the_memory_of_chains_grows_with_all_that_is_kept() -> None:
    def needed(text: str, n_chains: int = 4, n_updates: int = 1) -> int:
        card = parse_card(text)
        table = card.ensembles[0]
        sampler = memory.planned_sampler(table.sampler, table.options, card.theory.action, "")
        return sampler.least_bytes(n_chains, card.theory.action.event_shape(card.theory.shape), n_updates)

    one = needed(CLASSICAL)
    assert one == 4 * 2 * 4 * 6 * 8
    replicas = BIASED.format("tempering").replace(
        "n_updates = 2", "last = 0.5\nn_replicas = 5\nreplica = {sampler = 'hmc'}"
    )
    assert needed(replicas) >= 5 * one
    assert needed(BIASED.format("metadynamics")) == one + 4 * 501 * 8
    mixture = BIASED.format("mixture").replace("n_updates = 2", "parts = [{sampler = 'hmc'}, {sampler = 'heatbath'}]")
    assert 2 * one <= needed(mixture) < needed(mixture, n_updates=1000) - 1000 * 4 * 8
    assert needed(WITH_FLOW) == 4 * 32 * 8 + 300 * 32 * 8 + 4 * 8


@pytest.mark.parametrize("plan", PLANS)
def test_the_size_of_a_flow_is_that_of_the_one_that_is_built(plan: FlowPlan) -> None:
    size, flow = size_of(plan, 10**9), plan.build()
    weights = list(flow.parameters())
    assert size.n_parameters == sum(weight.numel() for weight in weights)
    assert size.n_bytes == sum(weight.numel() * weight.element_size() for weight in weights)
    kept = Kept()
    with saved_tensors_hooks(kept.add, lambda tensor: tensor):
        flow.image(flow.prior.sample(3, torch.Generator().manual_seed(1)))
    counted = size.n_bytes_of_graph(3, torch.float64)
    assert 0.2 * kept.n_bytes < counted <= 1.2 * kept.n_bytes


def test_where_a_flow_cannot_be_counted_its_first_weights_are() -> None:
    plan = HybridFlow((4, 4), WilsonU1(2.0), n_layers=4, hidden=(7,))
    size = size_of(plan, 10**9)
    couplings = PlaquetteCouplingFlow((4, 4), n_layers=4, n_components=1, hidden=(7,)).build()
    assert size.n_parameters >= sum(weight.numel() for weight in couplings.parameters())


def test_tables_of_a_lattice_are_counted_before_they_are_made(monkeypatch) -> None:
    window = CheckerboardFlow((64, 64, 64), Phi4(m2=-1.0, lam=2.0), kernel=99)
    assert window.table_bytes > 10**11
    assert MultiscaleFlow((4096, 4096), WilsonU1(2.0)).table_bytes > 10**9


def test_free_memory_is_that_of_the_machine_and_within_every_limit() -> None:
    assert 10**7 < free_memory() < 2**60
    assert [in_words(n) for n in (1500, 2e6, 3.21e9, 4e12)] == ["1.5 kB", "2 MB", "3.21 GB", "4 TB"]


def test_torch_out_of_memory_is_told_like_any_other() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**50)
    status, text = exit_status(refused.value)
    assert (status, text) == exit_status(MemoryError())
    assert status == EXIT_FAILURE
    assert "micro_batch" in text
