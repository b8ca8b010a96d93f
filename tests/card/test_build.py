"""The flow of a card: checked when the card is read, built when it is wanted, and once."""

import pickle

import pytest
import torch

from lattice_flows.card.build import build_flow
from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.flows import FLOWS, PlaquetteCouplingFlow

pytestmark = pytest.mark.quick

CPU = torch.device("cpu")
CARD = """
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
[flow]
name = "plaquette_coupling"
n_layers = 4
[[ensemble]]
name = "metropolis"
sampler = "flow_metropolis"
[[ensemble]]
name = "mixed"
sampler = "mixture"
parts = [{sampler = "flow_hmc"}, {sampler = "hmc"}]
"""


@pytest.fixture
def builds(monkeypatch):
    """The plans of which a flow was built."""
    plans = []

    class Counting(PlaquetteCouplingFlow):
        def assemble(self):
            plans.append(self)
            return super().assemble()

    monkeypatch.setitem(FLOWS, "plaquette_coupling", Counting)
    return plans


def test_reading_a_card_builds_no_flow(builds):
    assert parse_card(CARD) == parse_card(CARD)
    assert not builds


def test_a_card_builds_its_flow_once_and_hands_out_copies(builds):
    card = parse_card(CARD)
    first = build_flow(card, CPU)
    wanted = [weight.clone() for weight in first.parameters()]
    with torch.no_grad():
        for weight in first.parameters():
            weight.fill_(7.0)
    assert all(map(torch.equal, build_flow(card, CPU).parameters(), wanted))
    other = build_flow(parse_card(CARD, ["seed=2"]), CPU)
    assert not all(map(torch.equal, other.parameters(), wanted)), "the weights are of the card's seed"
    assert len(builds) == 2, "of two cards"


def test_a_card_goes_to_another_process_and_builds_the_same():
    card = parse_card(CARD)
    sent = pickle.loads(pickle.dumps(card))
    assert sent == card
    assert all(map(torch.equal, build_flow(sent, CPU).parameters(), build_flow(card, CPU).parameters()))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("theory.shape=[6, 4]", "[flow]: plaquette_coupling needs two sides that are multiples of 4"),
        ("flow.n_layers=0", "[flow]: n_layers must be between 1 and 1000"),
        ("ensemble.metropolis.batch_size=0", "[[ensemble]] metropolis: batch_size must be between 1 and 10000000"),
        (
            'ensemble.mixed.parts=[{sampler = "flow_hmc", n_md_steps = 0}, {sampler = "hmc"}]',
            "[[ensemble]] mixed.parts: n_md_steps must be between 1",
        ),
        ('ensemble.mixed.parts=[{sampler = "flow_samples"}, {sampler = "hmc"}]', "does not preserve the target"),
    ],
)
def test_what_no_flow_can_make_good_is_refused_without_one(builds, override, message):
    with pytest.raises(InputError) as caught:
        parse_card(CARD, [override])
    assert message in str(caught.value)
    assert not builds


def test_what_only_building_finds_is_one_line(monkeypatch):
    class Impossible(PlaquetteCouplingFlow):
        def assemble(self):
            raise ValueError("there is no such flow after all")

    monkeypatch.setitem(FLOWS, "plaquette_coupling", Impossible)
    card = parse_card(CARD)
    with pytest.raises(InputError, match=r"^\[flow\]: there is no such flow after all$"):
        build_flow(card, CPU)
