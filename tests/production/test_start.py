"""Chains that begin with a configuration from a file of another program."""

import numpy as np
import pytest
from cards import CLASSICAL, with_ensembles
from rich.console import Console

from lattice_flows.card.card import parse_card
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.kernels.random import make_streams
from lattice_flows.production.start import check_start_file, start_configurations
from lattice_flows.stages import sample_stage

U1 = parse_card(CLASSICAL).theory
ISING = parse_card(with_ensembles('[theory]\nname = "ising"\nshape = [4, 6]\nbeta = 0.4', {}, 4)).theory


def begun(theory, start, n_chains=3):
    return start_configurations(theory, str(start), make_streams(1, "start", range(n_chains)), None)[0]


@pytest.mark.parametrize(
    "form", [lambda x: x, lambda x: x + 2 * np.pi, lambda x: np.exp(1j * x), lambda x: x.astype(np.float32)]
)
def test_all_chains_begin_with_a_lone_configuration(form, tmp_path, rng):
    links = rng.uniform(-np.pi, np.pi, (2, *U1.shape))
    np.save(tmp_path / "conf.npy", form(links))
    check_start_file(U1, str(tmp_path / "conf.npy"))
    found = begun(U1, tmp_path / "conf.npy")
    assert (found.shape, found.dtype) == ((3, *links.shape), np.float64)
    np.testing.assert_allclose(found, np.broadcast_to(links, found.shape), atol=1e-6)
    assert ((found >= -np.pi) & (found < np.pi)).all()


def test_spins_begin_in_their_own_type(tmp_path, rng):
    spins = rng.choice([-1.0, 1.0], ISING.shape)
    np.save(tmp_path / "conf.npy", spins)
    found = begun(ISING, tmp_path / "conf.npy")
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, np.broadcast_to(spins, found.shape))


@pytest.mark.parametrize(
    ("theory", "array", "message"),
    [
        (U1, np.zeros((2, 4, 5)), r"has the shape \[2, 4, 5\]; a configuration has \[2, 4, 6\]"),
        (U1, np.zeros((1, 2, 4, 6)), "has the shape"),
        (U1, np.zeros((2, 4, 6), int), "holds int64; give angles as real floats, or links as complex numbers"),
        (U1, np.full((2, 4, 6), np.nan), "holds an angle that is not a number"),
        (U1, np.full((2, 4, 6), 2.0j), "holds a link whose modulus is not 1"),
        (ISING, np.zeros((4, 6)), "0 is none of -1, 1"),
        (ISING, np.full((4, 6), np.inf), "holds a number that is not finite"),
    ],
)
def test_what_is_no_configuration_is_refused(theory, array, message, tmp_path):
    np.save(tmp_path / "conf.npy", array)
    for refuses in (check_start_file, begun):
        with pytest.raises(InputError, match=message):
            refuses(theory, str(tmp_path / "conf.npy"))
    with pytest.raises(InputError, match="No such file"):
        begun(theory, tmp_path / "none.npy")


def test_a_card_names_the_file(card, tmp_path, rng):
    start, n_configs = tmp_path / "conf.npy", 5
    np.save(start, rng.uniform(-np.pi, np.pi, (2, *U1.shape)))
    changes = [f"ensemble.hmc.start={start}", f"ensemble.hmc.n_configs={n_configs}"]
    sample_stage(card(CLASSICAL), tmp_path / "run", changes, ["hmc"], Console(quiet=True))
    with Ensemble.open(tmp_path / "run" / "ensembles" / "hmc.h5") as ensemble:
        assert ensemble.n_configs == n_configs
