"""What is killed: runs of small cards, in which every sampler of the catalogue occurs, and single commands."""

import re

from cards import ARSENAL, ARSENAL_SAMPLERS, CLASSICAL, SCALAR, SCALAR_SAMPLERS, WITH_FLOW, with_ensembles

from lattice_flows.samplers import SAMPLERS

_SMALL = {"max_steps = 120": "max_steps = 30", "monitor_every = 40": "monitor_every = 10"}
_SMALL |= {"n_configs = 1000": "n_configs = 60", "n_configs = 400": "n_configs = 60", "n_layers = 8": "n_layers = 2"}


def quick(card: str) -> str:
    """A card with a flow that a test has the time for."""
    for old, new in {**_SMALL, "checkpoint_seconds = 0.5": "checkpoint_seconds = 0.001"}.items():
        assert old in card, f"{old!r} is no longer in the card"
        card = card.replace(old, new)
    return card


SPINS = """
seed = 5
[theory]
name = "ising"
shape = [6, 6]
beta = 0.4
[[ensemble]]
name = "clusters"
sampler = "swendsen_wang"
n_chains = 2
n_configs = 60
[[ensemble]]
name = "walk"
sampler = "random_walk"
width = 0.05
n_chains = 2
n_configs = 60
"""

LATENT = """
[[ensemble]]
name = "latent"
sampler = "latent_blocks"
block_side = 4
n_chains = 2
n_configs = 60
n_thermalisation = 3
"""

TREE = """
seed = 5
[theory]
name = "u1"
shape = [4, 8]
beta = 1.5
[flow]
name = "multiscale"
conditioner = "exact"
[[ensemble]]
name = "tree"
sampler = "localised_flow"
n_chains = 2
n_configs = 60
"""

PATHS = """
seed = 5
[theory]
name = "u1"
shape = [4, 6]
beta = 2.0
[flow]
name = "stochastic_flow"
initial = {beta = 1.0}
n_steps = 2
layers = [{flow = "plaquette_map", n_bins = 4}, {sampler = "heatbath"}]
[training]
max_steps = 30
monitor_every = 10
checkpoint_seconds = 0.05
[[ensemble]]
name = "populations"
sampler = "flow_smc"
n_particles = 4
n_chains = 8
n_configs = 60
"""

CARDS = {
    "flow": WITH_FLOW.replace("checkpoint_seconds = 0.5", "checkpoint_seconds = 0.05") + LATENT,
    "classical": CLASSICAL,
    "arsenal": with_ensembles(ARSENAL, ARSENAL_SAMPLERS, 60),
    "quick": quick(WITH_FLOW),
    "scalar": with_ensembles(SCALAR, SCALAR_SAMPLERS, 60),
    "spins": SPINS,
    "tree": TREE,
    "paths": PATHS,
}
WITHOUT_FIGURES = {"flow", "quick", "paths"}  # they take longer than the rest of it, and nothing is made from them
WHOLE = ("run",)
STEPS = {  # of runs that are more than one command: a shorter one is extended, or each stage comes alone
    "classical": (("run", "--set=ensemble.hmc.n_configs=150"), WHOLE),
    "arsenal": (("run", "--set=ensemble.tempering.n_configs=20", "--set=ensemble.umbrella.n_configs=25"), WHOLE),
    "quick": (("train",), ("sample",), WHOLE),
}
COMMANDS = {  # their targets, and their arguments
    "export netcdf": (("e.nc",), "export", "{}/e.h5", "--to", "netcdf"),
    "export npy": (("e_npy",), "export", "{}/e.h5", "--to", "npy"),
    "export pyerrors": (("e.json.gz",), "export", "{}/e.h5", "--to", "pyerrors"),
    "export arviz": (("e.arviz.nc",), "export", "{}/e.h5", "--to", "arviz"),
    "import": (("i.h5",), "import", "{}/fields.npy", "--out", "{}/i.h5", "--coupling", "beta=1.5"),
    "measure": (("e.h5", "measuring"), "measure", "{}/e.h5", "wilson_loop r=2 t=2", "wilson_loop r=1 t=1 every=2"),
    "analyse": (("report", "s.json"), "analyse", "{}/e.h5", "--report", "{}/report", "--json", "{}/s.json"),
}
JOBS = (*CARDS, *COMMANDS)
_OF_THE_EVALUATION = {"flow_samples"}  # a trained flow is always measured by it


def samplers_met() -> set[str]:
    """The catalogue names that occur in the cards, also as parts of others."""
    named = {name for text in CARDS.values() for name in re.findall(r'sampler = "(\w+)"', text)}
    return (named | _OF_THE_EVALUATION) & SAMPLERS.keys()


assert samplers_met() == SAMPLERS.keys(), f"no card with {sorted(SAMPLERS.keys() - samplers_met())}"
