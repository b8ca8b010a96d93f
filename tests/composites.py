"""Every sampler as a part of every sampler that is made of others: the cards, and what they build."""

import tomllib
from itertools import product

import pytest

from lattice_flows.card.card import parse_card
from lattice_flows.card.samplers import build_sampler, sampler_options
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import SAMPLERS
from lattice_flows.theories import WilsonU1

SHAPE, ACTION = (4, 4), WilsonU1(1.2)
N_CHAINS, N_CONFIGS, N_UPDATES, N_OF_PART = 2, 5, 2, 2

THEORIES = {
    "u1": 'name = "u1"\nshape = [4, 4]\nbeta = 1.2',
    "phi4": 'name = "phi4"\nshape = [4, 4]\nm2 = 0.5\nlam = 0.5',
    "ising": 'name = "ising"\nshape = [4, 4]\nbeta = 0.3',
}
LADDERS = {"u1": "values = [1.2, 0.8]", "phi4": 'coupling = "m2"\nvalues = [0.5, 1.0]', "ising": "values = [0.3, 0.2]"}
INITIAL = {"u1": "initial = {beta = 0.6}", "phi4": "initial = {m2 = 0.4, lam = 0.0}", "ising": "initial = {beta = 0.0}"}
FLOW = '[flow]\nname = "direct_draws"\ncouplings = {beta = 1.0}\n'
TREE = '[flow]\nname = "multiscale"\nconditioner = "exact"\n'
PATHS = '[flow]\nname = "stochastic_flow"\ninitial = {beta = 1.0}\nlayers = [{sampler = "heatbath"}]\n'

PARTS = {  # the arguments of each sampler
    "hmc": "n_md_steps = 4",
    "metropolis": "width = 1.0",
    "heatbath": "",
    "overrelaxation": "",
    "fourier_hmc": "mass_squared = 0.5, n_md_steps = 4",
    "instanton": "",
    "winding_hmc": "n_md_steps = 4",
    "cluster": "",
    "swendsen_wang": "",
    "random_walk": "width = 0.1",
    "mixture": 'parts = [{sampler = "hmc", n_md_steps = 4}, {sampler = "instanton"}]',
    "tempering": 'values = [1.2, 0.8], replica = {sampler = "hmc", n_md_steps = 4}',
    "replica_exchange": "parts = [{sampler = 'hmc', n_md_steps = 4}, "
    "{sampler = 'metadynamics', n_md_steps = 4, q_max = 2.0}]",
    "metadynamics": "n_md_steps = 4, q_max = 2.0",
    "umbrella": "n_windows = 2, q_max = 0.5, n_md_steps = 4, exchange_every = 2",
    "flow_metropolis": "batch_size = 10",
    "flow_hmc": "n_md_steps = 4",
    "flow_blocks": "tree_beta = 1.5",
    "latent_blocks": "block_side = 2",
    "localised": "block_side = 3, tree_beta = 1.5",
    "localised_flow": "block_side = 2",
    "flow_samples": "batch_size = 10",
    "direct": "",
    "annealed": 'initial = {beta = 0.5}, n_steps = 2, protocol = [0.0, 1.0], kernel = {sampler = "heatbath"}',
    "smc": "initial = {beta = 0.5}, n_particles = 2, n_steps = 2, protocol = [0.0, 1.0], "
    "kernel = {sampler = 'heatbath'}",
    "flow_smc": "n_particles = 2",
}
OWN_FLOWS = {"localised_flow": TREE, "flow_smc": PATHS}  # of those that need more of a flow than samples
OF_THEORY = {"fourier_hmc": "phi4", "cluster": "phi4", "swendsen_wang": "ising"}
assert PARTS.keys() == set(SAMPLERS), "every sampler is a part of every other"

WHOLES = {  # where a sampler stands in another
    "mixture": 'sampler = "mixture"\nparts = [{part}, {{sampler = "heatbath"}}]',
    "tempering": 'sampler = "tempering"\n{ladder}\nreplica = {part}',
    "annealed": 'sampler = "annealed"\n{initial}\nn_steps = 3\nprotocol = [0.0, 1.0]\nkernel = {part}',
    "smc": 'sampler = "smc"\n{initial}\nn_particles = 2\nn_steps = 3\nprotocol = [0.0, 1.0]\nkernel = {part}',
    "replica_exchange, first": 'sampler = "replica_exchange"\nparts = [{part}, {{sampler = "heatbath"}}]',
    "replica_exchange, second": 'sampler = "replica_exchange"\nparts = [{{sampler = "heatbath"}}, {part}]',
}
OF_PATHS = ["annealed", "smc"]
OF_SAMPLES = ["flow_samples", "flow_smc", *OF_PATHS]
WEIGHTED = ["metadynamics", "umbrella", *OF_SAMPLES]
UNFIT_RUNG = "replica must reach every configuration and need no weights"
REFUSED = {
    **dict.fromkeys(product(["mixture"], WEIGHTED), "its averages need weights"),
    **dict.fromkeys(product(["tempering"], WEIGHTED), UNFIT_RUNG),
    **dict.fromkeys(product(["tempering"], ["overrelaxation", "instanton", "cluster"]), UNFIT_RUNG),
    ("tempering", "tempering"): "values must begin with the target's beta = 0.8, got 1.2",
    **dict.fromkeys(
        product(["replica_exchange, first"], WEIGHTED),
        "the first of the parts",
    ),
    **dict.fromkeys(product(["replica_exchange, second"], OF_SAMPLES), "only swap if it knows its own target"),
    **dict.fromkeys(
        product(
            OF_PATHS,
            [*WEIGHTED, "flow_metropolis", "tempering", "replica_exchange"],
        ),
        "keeps no target in a single update",
    ),
}
PAIRS = list(product(WHOLES, PARTS))
accepted = pytest.mark.parametrize(("whole", "part"), [pair for pair in PAIRS if pair not in REFUSED])


def text_of(whole, part, n_chains=N_CHAINS, arguments=None):
    """The card of this pair."""
    theory, arguments = OF_THEORY.get(part, "u1"), PARTS[part] if arguments is None else arguments
    flow = OWN_FLOWS.get(part, FLOW)
    counted = "" if whole in ("tempering", *OF_PATHS) else f", n_updates = {N_OF_PART}"
    table = f'{{sampler = "{part}"{counted}{", " if arguments else ""}{arguments}}}'
    return (
        f"seed = 3\n[theory]\n{THEORIES[theory]}\n{flow if theory == 'u1' else ''}"
        f'[[ensemble]]\nname = "e"\nn_chains = {n_chains}\nn_configs = {N_CONFIGS}\nn_updates = {N_UPDATES}\n'
        f"n_thermalisation = 3\n{WHOLES[whole].format(part=table, ladder=LADDERS[theory], initial=INITIAL[theory])}\n"
    )


def built(whole, part):
    """The sampler of this pair, with a flow."""
    table = parse_card(text_of(whole, part)).ensemble("e")
    return build_sampler(table.sampler, table.options, action_of(part), flow_of(part), "e")


def alone(part):
    """The same sampler by itself."""
    table = tomllib.loads(f"table = {{{PARTS[part]}}}")["table"]
    return build_sampler(part, sampler_options(part, table, part), action_of(part), flow_of(part), part)


def action_of(part):
    return parse_card(f"[theory]\n{THEORIES[OF_THEORY.get(part, 'u1')]}").theory.action


def flow_of(part):
    text = "" if part in OF_THEORY else OWN_FLOWS.get(part, FLOW)
    return None if not text else parse_card(f"[theory]\n{THEORIES['u1']}\n{text}").flow.built_flow


def hot(sampler, n_chains, seed):
    """A state from a hot start."""
    streams = make_streams(seed, "test", range(n_chains))
    return sampler.init(*sampler.action.hot(streams, sampler.action.event_shape(SHAPE)))
