"""A training asks of a flow no more than it offers, and the card says so."""

from typing import ClassVar

import pytest

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.flows import FLOWS, PlaquetteCouplingFlow
from lattice_flows.training import OBJECTIVES

pytestmark = pytest.mark.quick


class OneWay(PlaquetteCouplingFlow):
    """A flow without an inverse."""

    offers: ClassVar = frozenset({"gradient"})
    precisions: ClassVar = ("float64",)


CARD = """
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
[flow]
name = "one_way"
[training]
objective = "{objective}"
data = "direct"
{more}
"""


@pytest.fixture(autouse=True)
def _with_a_one_way_flow(monkeypatch):
    monkeypatch.setitem(FLOWS, "one_way", OneWay)


@pytest.mark.parametrize("objective", sorted(set(OBJECTIVES) - {"reverse_kl"}))
def test_what_the_flow_does_not_offer_is_refused_in_one_line(objective):
    with pytest.raises(
        InputError, match=r"needs the .* of the flow, which one_way does not have; use one of reverse_kl$"
    ):
        parse_card(CARD.format(objective=objective, more=""))


@pytest.mark.parametrize(
    "sampler", ['"localised_flow"', '"mixture"\nparts = [{sampler = "hmc"}, {sampler = "localised_flow"}]']
)
def test_what_a_sampler_asks_of_it_is_refused_in_one_line(sampler):
    card = CARD.format(objective="reverse_kl", more=f'[[ensemble]]\nname = "e"\nsampler = {sampler}')
    told = "LocalisedFlow needs the regions of the flow, which one_way does not have; use multiscale$"
    with pytest.raises(InputError, match=told):
        parse_card(card)
    assert parse_card(card.replace("one_way", "multiscale"))


@pytest.mark.parametrize("flow", ["one_way", "multiscale"])
def test_populations_go_through_layers_of_a_stochastic_flow_alone(flow):
    more = '[[ensemble]]\nname = "e"\nn_chains = 64\nsampler = "flow_smc"'
    card = CARD.format(objective="reverse_kl", more=more).replace("one_way", flow)
    with pytest.raises(
        InputError, match=f"FlowSMC needs the layers of the flow, which {flow} does not have; use stochastic_flow$"
    ):
        parse_card(card)
    layers = 'stochastic_flow"\ninitial = {beta = 0.5}\nlayers = [{sampler = "heatbath"}]'
    assert parse_card(card.replace(f'{flow}"', layers))


def test_an_inverse_is_a_way_back_for_chains_and_for_training(monkeypatch):
    """Also where a flow of another package names no paths."""
    monkeypatch.setattr(OneWay, "offers", frozenset({"inverse"}))
    chain = '[[ensemble]]\nname = "e"\nsampler = "flow_metropolis"'
    assert parse_card(CARD.format(objective="forward_kl", more=chain))
    monkeypatch.setattr(OneWay, "offers", frozenset({"gradient"}))
    with pytest.raises(InputError, match="FlowMetropolis needs the paths of the flow"):
        parse_card(CARD.format(objective="reverse_kl", more=chain))


def test_what_it_offers_is_not():
    assert parse_card(CARD.format(objective="reverse_kl", more="")).training.objective == "reverse_kl"


def test_a_precision_that_the_flow_is_not_trained_in():
    with pytest.raises(InputError, match="precision = 'float32': one_way is trained in float64"):
        parse_card(CARD.format(objective="reverse_kl", more='precision = "float32"'))
