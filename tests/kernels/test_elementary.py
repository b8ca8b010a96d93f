"""The vectorising sine, exponential, logarithm and wrap against the C library's."""

import numpy as np
import pytest
from numba import vectorize

from lattice_flows.kernels.elementary import fast_cos, fast_exp, fast_log, fast_sin, fast_sin_cos, wrap

pytestmark = pytest.mark.quick

sin = vectorize(["float64(float64)"])(lambda x: fast_sin(x))
cos = vectorize(["float64(float64)"])(lambda x: fast_cos(x))
both_sin = vectorize(["float64(float64)"])(lambda x: fast_sin_cos(x)[0])
both_cos = vectorize(["float64(float64)"])(lambda x: fast_sin_cos(x)[1])
exp = vectorize(["float64(float64)"])(lambda x: fast_exp(x))
log = vectorize(["float64(float64)"])(lambda x: fast_log(x))
wrapped = vectorize(["float64(float64)"])(lambda x: wrap(x))


@pytest.mark.parametrize("reach", [1e-8, 1.0, 10.0, 1000.0])
def test_sine_and_cosine(rng, reach):
    x = rng.uniform(-reach, reach, 100_000)
    np.testing.assert_allclose(sin(x), np.sin(x), rtol=0, atol=4e-16 * max(1.0, reach))
    np.testing.assert_allclose(cos(x), np.cos(x), rtol=0, atol=4e-16 * max(1.0, reach))


@pytest.mark.parametrize("reach", [1e-8, 1.0, 10.0, 1000.0])
def test_sine_and_cosine_at_once(rng, reach):
    x = rng.uniform(-reach, reach, 100_000)
    np.testing.assert_array_equal(both_sin(x), sin(x))
    np.testing.assert_allclose(both_cos(x), np.cos(x), rtol=0, atol=4e-16 * max(1.0, reach))


def test_sine_at_multiples_of_half_pi():
    x = np.arange(-40, 41) * (0.5 * np.pi)
    np.testing.assert_allclose(sin(x), np.sin(x), rtol=0, atol=1e-14)


def test_exponential(rng):
    x = np.concatenate([rng.uniform(-708, 709, 100_000), rng.normal(size=100_000), [0.0, -1e-300, 1e-17]])
    np.testing.assert_allclose(exp(x), np.exp(x), rtol=5e-16, atol=0)


def test_exponentials_beyond_the_range_of_normal_numbers_end_there():
    np.testing.assert_allclose(exp(np.array([-1e6, -np.inf])), np.exp(-708.0), rtol=5e-16)
    np.testing.assert_allclose(exp(np.array([1e6, np.inf])), np.exp(709.0), rtol=5e-16)
    with np.errstate(invalid="ignore"):
        assert np.isnan(exp(np.nan))


def test_logarithm(rng):
    wide, near_one = 10.0 ** rng.uniform(-300, 300, 100_000), 1 + 1e-12 * rng.random(1000)
    x = np.concatenate([rng.random(100_000), wide, near_one, [1.0]])
    np.testing.assert_allclose(log(x), np.log(x), rtol=5e-16, atol=0)


def test_wrap(rng):
    x = np.concatenate([rng.uniform(-100, 100, 100_000), [np.pi, -np.pi, np.nextafter(np.pi, 0)]])
    y = wrapped(x)
    assert (y >= -np.pi).all()
    assert (y < np.pi).all()
    np.testing.assert_allclose(np.exp(1j * y), np.exp(1j * x), rtol=0, atol=3e-14)
