"""The direct sampler gives independent Haar-distributed link fields with the exact expectation values."""

import numpy as np
import pytest
from scipy import stats

from lattice_flows.kernels.random import make_streams
from lattice_flows.theories import ExactU1, sample_u1
from lattice_flows.theories.u1.kernels import fields as u1

pytestmark = pytest.mark.quick

CASES = [((4, 4), 0.0), ((4, 4), 1e-4), ((8, 8), 2.0), ((6, 10), 1.5), ((3, 5), 4.0), ((16, 16), 7.0), ((2, 2), 1.0)]


@pytest.mark.parametrize(("shape", "beta"), CASES, ids=str)
def test_expectation_values(shape, beta, seed):
    links, _ = sample_u1(beta, *shape, make_streams(seed, "test", range(8000)))
    exact, wrong = ExactU1(beta, shape[0] * shape[1]), ExactU1(1.1 * beta + 0.05, shape[0] * shape[1])
    charge = np.rint(u1.topological_charge(links))
    measured = {
        "plaquette": (u1.mean_plaquette(links), exact.plaquette, wrong.plaquette),
        "charge_squared": (charge**2, exact.charge_squared, wrong.charge_squared),
        "wilson_loop_1x2": (u1.mean_wilson_loop(links, 1, 2), exact.wilson_loop(2), wrong.wilson_loop(2)),
        "polyakov_0": (u1.mean_polyakov_correlator(links, 0, 1), exact.wilson_loop(shape[0]), None),
        "polyakov_1": (u1.mean_polyakov_correlator(links, 1, 1), exact.wilson_loop(shape[1]), None),
        "charge": (charge, 0.0, None),
    }
    pulls = {name: _pull(values, truth) for name, (values, truth, _) in measured.items()}
    assert max(map(abs, pulls.values())) < 4.5, pulls
    assert abs(_pull(measured["plaquette"][0], wrong.plaquette)) > 4.5  # a planted error


def _pull(values, truth):
    error = values.std() / np.sqrt(values.size)
    return 0.0 if error < 1e-12 else (values.mean() - truth) / error


def test_charge_distribution(seed):
    links, _ = sample_u1(2.0, 8, 8, make_streams(seed, "test", range(20_000)))
    charges = np.rint(u1.topological_charge(links)).astype(int)
    expected = ExactU1(2.0, 64).charge_distribution(4) * charges.size
    observed = np.array([(charges == q).sum() for q in range(-4, 5)])
    rest = charges.size - observed.sum(), charges.size - expected.sum()
    chi2 = ((observed - expected) ** 2 / expected).sum() + (rest[0] - rest[1]) ** 2 / rest[1]
    assert stats.chi2.sf(chi2, 9) > 1e-4
    wrong = ExactU1(2.1, 64).charge_distribution(4) * charges.size
    assert stats.chi2.sf(((observed - wrong) ** 2 / wrong).sum(), 9) < 1e-4  # a planted error


def test_links_and_holonomies_are_uniform(seed):
    """Every gauge-variant angle is uniform on the circle, and so is every Polyakov loop."""
    links, _ = sample_u1(3.0, 4, 6, make_streams(seed, "test", range(5000)))
    angles = [links[:, 0, 3, 2], links[:, 1, 0, 5], links[:, 0, 1, 1], links[:, 0, :, 0].sum(1), links[:, 1, 2].sum(1)]
    for angle in angles:
        uniform = (angle + np.pi) / (2 * np.pi) % 1.0
        assert stats.kstest(uniform, "uniform").pvalue > 1e-4
    assert (links >= -np.pi).all()
    assert (links < np.pi).all()


def test_streams_advance_and_arguments_stay(seed):
    streams = make_streams(seed, "test", range(3))
    before = streams.copy()
    first, later = sample_u1(2.0, 4, 4, streams)
    again, _ = sample_u1(2.0, 4, 4, streams)
    second, _ = sample_u1(2.0, 4, 4, later)
    np.testing.assert_array_equal(streams, before)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, second)
