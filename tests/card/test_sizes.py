"""Sizes on a card that no machine has room for: one line each, at once, and nothing is built."""

import pytest
from cards import CLASSICAL, WITH_FLOW

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError

HUGE = 10**12
TREE = WITH_FLOW.replace('"plaquette_coupling"', '"multiscale"').replace('transform = "projection"\nn_layers = 8\n', "")
SCALAR = """
[theory]
name = "phi4"
shape = [4, 4]
m2 = 1.0
lam = 1.0
[flow]
name = "checkerboard_coupling"
"""
TEMPERED = CLASSICAL.replace('sampler = "hmc"', 'sampler = "tempering"\nlast = 0.5\nreplica = {sampler = "hmc"}')


@pytest.mark.parametrize(
    ("text", "override"),
    [
        (WITH_FLOW, "flow.n_layers"),
        (WITH_FLOW, "flow.n_components"),
        (WITH_FLOW, "flow.hidden=[{}]"),
        (TREE, "flow.n_bins"),
        (TREE, "flow.hidden=[{}]"),
        (SCALAR, "flow.n_layers"),
        (SCALAR, "flow.n_bins"),
        (SCALAR, "flow.kernel={}1"),
        (SCALAR, "flow.hidden=[{}]"),
        (WITH_FLOW, "training.batch_size"),
        (WITH_FLOW, "training.final_batch_size"),
        (WITH_FLOW, "training.micro_batch"),
        (WITH_FLOW, "training.monitor_samples"),
        (WITH_FLOW, "training.buffer_size"),
        (WITH_FLOW, "ensemble.flow.batch_size"),
        (WITH_FLOW, "ensemble.flow_hmc.n_md_steps"),
        (TEMPERED, "ensemble.hmc.n_replicas"),
        (TEMPERED, "ensemble.hmc.n_between_swaps"),
        (CLASSICAL.replace('sampler = "hmc"', 'sampler = "metadynamics"'), "ensemble.hmc.n_grid"),
        (CLASSICAL.replace('sampler = "hmc"', 'sampler = "umbrella"'), "ensemble.hmc.n_windows"),
        (CLASSICAL.replace('sampler = "hmc"', 'sampler = "winding_hmc"'), "ensemble.hmc.n_windings"),
        (CLASSICAL, "ensemble.hmc.n_chains"),
        (CLASSICAL, "observable.wilson_loop.r"),
    ],
)
def test_an_absurd_size_is_one_line(text, override):
    key, _, value = override.partition("=")
    for huge in (HUGE, 10**30):
        with pytest.raises(InputError) as refused:
            parse_card(text, [f"{key}={(value or '{}').format(huge)}"])
        assert str(huge) in str(refused.value)
        assert len(str(refused.value)) < 300


def test_an_absurd_distance_is_one_line():
    more = '\n[[observable]]\nname = "polyakov_correlator"\nmu = 0\ndistance = 1' + 30 * "0"
    with pytest.raises(InputError, match="0 <= distance <= 4096"):
        parse_card(CLASSICAL + more)
