"""Layers of flows on a card: what is refused, and a run of them."""

import json

import pytest
from rich.console import Console

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.stages import run

CARD = """
seed = 1
[theory]
name = "u1"
shape = [4, 4]
beta = 2.0
[flow]
name = "stochastic_flow"
n_steps = 2
initial = {{beta = 1.0}}
layers = [{layers}]
[training]
objective = "{objective}"
max_steps = 6
{more}
"""
GOOD = '{flow = "plaquette_coupling", n_layers = 4, hidden = [2]}, {sampler = "heatbath", n_updates = 2}'


def text(layers=GOOD, objective="reverse_kl", more=""):
    return CARD.format(layers=layers, objective=objective, more=more)


REFUSED = {
    "nothing": (text(layers=""), "must be an array of tables"),
    "two kinds": (text('{flow = "hybrid", sampler = "hmc"}'), "must have one of the keys flow, sampler, langevin"),
    "unknown flow": (text('{flow = "plaquette"}'), r"layers\[0\]: flow: unknown name 'plaquette'"),
    "unknown key": (text('{sampler = "heatbath", n_update = 2}'), "did you mean 'n_updates'"),
    "untuned": (text('{sampler = "hmc"}'), "give trajectory_length, n_md_steps: nothing is tuned inside a flow"),
    "of weights": (text('{sampler = "metadynamics", q_max = 2.0, n_md_steps = 2}'), "keeps no target in a single"),
    "of a flow": (text('{sampler = "flow_hmc", n_md_steps = 2}'), "needs a flow of its own"),
    "in steps": (text('{flow = "gradient_flow"}'), "is integrated, and its steps are not refined inside a flow"),
    "of sites": (text('{flow = "vector_coupling"}'), "layers"),
    "itself": (text('{flow = "stochastic_flow"}'), "is no transform; list its layers here"),
    "too many": (text('{sampler = "heatbath", n_updates = 60000}'), "layers make 120000 updates in 2 steps"),
    "infinite": (text("{langevin = inf}"), r"\[flow\]: layers\[0\]: langevin must be a step size"),
    "of integers": (
        text("{langevin = 0.1}").replace('name = "u1"', 'name = "ising"').replace("= 1.0}", "= 0.0}"),
        "Langevin steps move angles and real numbers, not the integers -1, 1",
    ),
    "groups": (text(objective="dreg"), "needs the inverse of the flow"),
    "negative": (text("{langevin = -0.1}"), "langevin = -0.1"),
    "inverse": (text(objective="reinforce"), "needs the inverse of the flow, which stochastic_flow does not have"),
    "no way back": (
        text('{sampler = "winding_hmc", n_md_steps = 2, n_windings = 1}', "forward_kl", 'data = "direct"'),
        "needs the paths of the flow",
    ),
    "latent": (
        text() + '[[ensemble]]\nname = "e"\nsampler = "flow_hmc"\n',
        "FlowHMC needs the inverse of the flow, which stochastic_flow does not have",
    ),
}


@pytest.mark.parametrize(("card", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_flow_is_refused_in_one_line(card, message):
    with pytest.raises(InputError, match=message) as told:
        parse_card(card)
    assert "\n" not in str(told.value)


def test_a_card_trains_it_and_makes_chains_and_annealed_samples_of_the_same_path(tmp_path):
    card = (
        text()
        + """
[[ensemble]]
name = "metropolis"
sampler = "flow_metropolis"
n_chains = 2
n_configs = 50
[[ensemble]]
name = "annealed"
sampler = "annealed"
initial = {beta = 1.0}
n_steps = 4
kernel = {sampler = "heatbath"}
n_chains = 2
n_configs = 50
"""
    )
    (tmp_path / "card.toml").write_text(card)
    run(tmp_path / "card.toml", tmp_path / "run", (), Console(quiet=True))
    summary = json.loads((tmp_path / "run" / "report" / "summary.json").read_text())
    assert 0 < summary["flow"]["ess"] <= 1
    assert set(summary["ensembles"]) == {"metropolis", "annealed"}
