"""Tables of densities as maps: the density that they say, and the log det of what they do."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import gumbel_l
from torch import Tensor

from lattice_flows.flows import Chain, Flow, GaussianPrior, forward_with_score
from lattice_flows.flows.tabulated import Tabulated, quartic_sites
from lattice_flows.theories import Phi4

pytestmark = pytest.mark.quick

COUPLINGS = pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (-8.0, 4.0), (0.0, 8.0), (1e-3, 1e-6)], ids=str)


def _gumbel(n: int = 401) -> Tabulated:
    """log p = x - e^x: a skewed one, whose lower tail is long."""
    x = np.linspace(-30.0, 4.0, n)
    return Tabulated(x, x - np.exp(x))


def _deviates(generator: torch.Generator, n: int = 20_000) -> Tensor:
    z = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    z[:4, 0] = torch.tensor([0.0, 1e3, -1e3, 12.0])
    return z


@COUPLINGS
def test_images_have_the_density(a: float, b: float, generator: torch.Generator) -> None:
    """log p - log q is log Z everywhere; couplings 0.01 % off are seen."""
    z = 0.7 * _deviates(generator)[4:]
    x, log_det = quartic_sites(a, b, 0.7).forward(z)
    log_q = GaussianPrior((1,), 0.7).log_prob(z) - log_det
    log_p = (-a * x**2 - b * x**4)[:, 0]
    scale = (abs(a) / b + b**-0.5) ** 0.5
    log_z = math.log(
        scale * quad(lambda s: math.exp(-a * (scale * s) ** 2 - b * (scale * s) ** 4), -8, 8, limit=200)[0]
    )
    torch.testing.assert_close(log_p - log_q, torch.full_like(log_p, log_z), atol=1e-5, rtol=0)
    assert (1e-4 * b * x**4).max() > 1e-4


def test_a_finer_table_is_closer() -> None:
    """The error of log q falls by eight with twice as many points."""
    z = torch.linspace(-5.0, 5.0, 1001, dtype=torch.float64)[:, None]
    spread = []
    for n in (101, 201):
        x, log_det = quartic_sites(-4.0, 8.0, n_points=n).forward(z)
        log_w = (4.0 * x**2 - 8.0 * x**4 + 0.5 * z**2)[:, 0] + log_det
        spread.append(float(log_w.max() - log_w.min()))
    assert 6.0 < spread[0] / spread[1] < 10.0


def test_quantiles_of_a_skewed_density(generator: torch.Generator) -> None:
    z = torch.linspace(-5.0, 5.0, 201, dtype=torch.float64)[:, None]
    x, _ = _gumbel().forward(z)
    expected = torch.from_numpy(gumbel_l.ppf(torch.special.ndtr(z).numpy()))
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(-x.flip(0), x, atol=0.1)


def test_a_normal_density_is_the_identity() -> None:
    x = np.linspace(-10.0, 10.0, 101)
    z = torch.linspace(-8.0, 8.0, 301, dtype=torch.float64)[:, None]
    transform = Tabulated(x, -0.5 * x * x)
    image, log_det = transform.forward(z)
    torch.testing.assert_close(image, z, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_det, torch.zeros_like(log_det), rtol=0, atol=1e-8)
    beyond = torch.tensor([[-40.0], [11.0], [40.0]], dtype=torch.float64)
    image, log_det = transform.forward(beyond)
    torch.testing.assert_close(image, beyond, rtol=0.02, atol=0)
    assert log_det[1] == log_det[2] != 0


@pytest.mark.parametrize("transform", [quartic_sites(-8.0, 4.0, 0.5), _gumbel(50)], ids=["quartic", "gumbel"])
def test_inverse_log_det_and_score(transform: Tabulated, generator: torch.Generator) -> None:
    z = _deviates(generator, 2000).unflatten(0, (-1, 4))[..., 0].requires_grad_(True)  # (500, 4)
    x, log_det = transform.forward(z)
    back, inverse_log_det = transform.inverse(x)
    torch.testing.assert_close(back, z, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=0, atol=1e-9)
    (slope,) = torch.autograd.grad(x.sum(), z, retain_graph=True)
    torch.testing.assert_close(torch.log(slope).sum(1), log_det, rtol=0, atol=1e-9)
    score = torch.randn(z.shape, generator=generator, dtype=torch.float64)
    scored = forward_with_score(transform, z.detach(), score)
    end = x.detach().requires_grad_(True)
    back, inverse_log_det = transform.inverse(end)
    (expected,) = torch.autograd.grad((back * score).sum() + inverse_log_det.sum(), end)
    torch.testing.assert_close(scored.score, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close((scored.x, scored.log_det), (x, log_det), rtol=1e-12, atol=1e-12)


def test_an_even_density_is_an_odd_map(generator: torch.Generator) -> None:
    transform, z = quartic_sites(-4.0, 8.0), _deviates(generator)
    torch.testing.assert_close(transform.forward(-z)[0], -transform.forward(z)[0], rtol=1e-12, atol=1e-12)
    assert not transform.state_dict()


def test_a_flow_of_sites_without_neighbours(generator: torch.Generator) -> None:
    """<phi^2> of the density at every site, with its error; 3 % off is seen."""
    flow = Flow(GaussianPrior((4, 4)), Chain(quartic_sites(0.0, 8.0)))
    x, log_q = flow.sample(4000, generator)
    torch.testing.assert_close(flow.log_prob(x), log_q, atol=1e-9, rtol=0)
    squares = x.square().mean((1, 2))
    error = float(squares.std()) / math.sqrt(len(squares))
    expected = math.gamma(0.75) / math.gamma(0.25) / math.sqrt(8.0)
    assert abs(float(squares.mean()) - expected) < 4.5 * error < 0.03 * expected
    assert Phi4(-4.0, 8.0)(x).shape == (4000,)


LINE = np.linspace(-5.0, 5.0, 11)


@pytest.mark.parametrize(
    ("x", "log_p", "width", "message"),
    [
        (LINE[:3], LINE[:3], 1.0, r"at least four points, got \[3\] and \[3\]"),
        (LINE, LINE[:5], 1.0, r"at least four points, got \[11\] and \[5\]"),
        (LINE[::-1], -(LINE**2), 1.0, "its x increase"),
        (LINE, np.full(11, np.nan), 1.0, "finite numbers"),
        (LINE, LINE, 1.0, "must rise at the table's lower end and fall at its upper one, got 1, 1"),
        (LINE, -(LINE**2), 0.0, "width must be positive and finite, got 0"),
        (
            np.arange(9.0),
            np.array([-1e4, 0, -1e4, -1e4, -1e4, -1e4, -1e4, 0, -1e4]),
            1.0,
            "vanishes to rounding between",
        ),
    ],
)
def test_refuses_tables_in_one_line(x: np.ndarray, log_p: np.ndarray, width: float, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Tabulated(x, log_p, width)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("a", "b", "n_points", "message"),
    [
        (1.0, 0.0, 401, "b > 0, got a = 1.0, b = 0.0"),
        (math.inf, 1.0, 401, "a finite and b > 0, got a = inf"),
        (1.0, 1.0, 3, "n_points must be between 10 and 100000, got 3"),
        (-60.0, 4.0, 401, "vanishes to rounding between x ="),
    ],
)
def test_refuses_quartic_densities_in_one_line(a: float, b: float, n_points: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quartic_sites(a, b, n_points=n_points)
