"""Philox4x32-10 against its published vectors; deviates against their distributions; streams against each other."""

import numpy as np
import pytest
from scipy import stats

from lattice_flows.kernels.random import make_streams, normals, philox4x32, uniforms

pytestmark = pytest.mark.quick

# Random123's kat_vectors: counter words, key words, output words
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_published_vectors(counter, key, expected):
    words = philox4x32(*(np.uint64(word) for word in (*counter, *key)))
    assert tuple(int(word) for word in words) == expected


@pytest.mark.parametrize(("draw", "law"), [(normals, "norm"), (uniforms, "uniform")])
def test_distribution(seed, draw, law):
    x, _ = draw(make_streams(seed, "test", range(16)), 100_000)
    assert stats.kstest(x.ravel(), law).pvalue > 1e-4
    assert stats.kstest(x.ravel() * 1.01, law).pvalue < 1e-4  # a planted error of 1 %


def test_neighbouring_deviates_and_streams_are_uncorrelated(seed):
    z, _ = normals(make_streams(seed, "test", range(8)), 100_001)
    n = z.shape[1] // 2
    pairs = [(z[:, :n], z[:, n : 2 * n]), (z[:, :-1], z[:, 1:]), (z[:-1], z[1:])]
    for a, b in pairs:
        assert abs((a * b).mean()) * np.sqrt(a.size) < 4.5
        assert abs((a**2 * b**2 - 1).mean()) * np.sqrt(a.size / 8) < 4.5


def test_streams_do_not_depend_on_grouping():
    whole = make_streams(3, "hmc", range(6))
    np.testing.assert_array_equal(whole[4:], make_streams(3, "hmc", range(4, 6)))
    together, _ = normals(whole, 33)
    apart, _ = normals(whole[4:], 33)
    np.testing.assert_array_equal(together[4:], apart)


def test_ensembles_and_seeds_have_streams_of_their_own():
    keys = [tuple(make_streams(seed, name, range(3))[:, 0]) for seed in (1, 2) for name in ("a", "b")]
    assert len({key for group in keys for key in group}) == 12


def test_a_stream_goes_on_where_it_was(seed):
    start = make_streams(seed, "test", range(2))
    long, end = uniforms(start, 20)
    first, middle = uniforms(start, 10)
    second, end_again = uniforms(middle, 10)
    np.testing.assert_array_equal(end, end_again)
    # Blocks are the same ones: each gives an entry of the first and one of the second half.
    np.testing.assert_array_equal(long[:, :5], first[:, :5])
    np.testing.assert_array_equal(long[:, 5:10], second[:, :5])
    assert (start[:, 1] == 0).all()


def test_results_do_not_depend_on_threads(seed):
    import numba

    streams = make_streams(seed, "test", range(8))
    one, _ = normals(streams, 1001)
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    two, _ = normals(streams, 1001)
    np.testing.assert_array_equal(one, two)
