"""Where the splines of a tree come from: valid tables at any weights, and the densities they should draw."""

import math

import numba
import numpy as np
import pytest
import torch
from cases import mlp_tree, structured_tree
from numpy.typing import NDArray
from scipy.special import ive
from torch import Tensor

from lattice_flows.flows import Multiscale, initialise, multiscale
from lattice_flows.flows.conditioners import Conditioner, ExactConditioner, NetworkConditioner, StructuredConditioner
from lattice_flows.flows.tree import Split
from lattice_flows.flows.tree_map import TreeTables, tree_forward
from lattice_flows.statistics import effective_sample_size, log_partition
from lattice_flows.theories import ExactU1, ImprovedU1, WilsonU1
from lattice_flows.theories.u1.kernels import tree as tree_u1
from lattice_flows.theories.u1.kernels import tree_rewards
from lattice_flows.training import evaluate

TORUS = Split((2, 4), (2, 4))
HALVES = [
    Split(*shapes)
    for shapes in (
        ((1, 1), (1, 1)),
        ((1, 2), (1, 2)),
        ((1, 1), (1, 2)),
        ((1, 3), (2, 3)),
        ((2, 5), (3, 5)),
        ((4, 4), (4, 4)),
        ((4, 8), (4, 8)),
    )
]
EVERY = pytest.mark.parametrize("split", HALVES, ids=lambda split: split.name)
BETAS = pytest.mark.parametrize("beta", [0.5, 2.0, 6.0, 20.0, 50.0])


def _density(conditioner: Conditioner, s: Tensor, u: Tensor) -> Tensor:
    """log of the density of u' = u at flux s in the second split, (n,), relative to the uniform one."""
    splines, odd = conditioner.tables()
    splines = splines.detach()
    sign = torch.where(u < 0, -1.0, 1.0) if odd[1] else torch.where(s < 0, -1.0, 1.0)
    position = s.abs() * ((splines.shape[1] - 1) / math.pi)
    row = position.long().clamp_max(splines.shape[1] - 2)
    low, high = splines[1, row], splines[1, row + 1]
    x, y, d = (low + (position - row)[:, None, None] * (high - low)).unbind(1)  # (n, n_bins + 1)
    image = (sign * u)[:, None]
    k = (image >= y[:, 1:-1]).sum(1, keepdim=True)
    (x0, x1), (y0, y1), (d0, d1) = ((v.gather(1, k), v.gather(1, k + 1)) for v in (x, y, d))
    secant, eta = (y1 - y0) / (x1 - x0), (image - y0) / (y1 - y0)
    # arXiv:1906.04032 eqs. (5) to (8)
    bend = d0 + d1 - 2.0 * secant
    a, b, c = (
        (y1 - y0) * (secant - d0) + (image - y0) * bend,
        (y1 - y0) * d0 - (image - y0) * bend,
        -secant * (image - y0),
    )
    xi = 2.0 * c / (-b - torch.sqrt(b * b - 4.0 * a * c))
    top = secant**2 * (d1 * xi**2 + 2.0 * secant * xi * (1 - xi) + d0 * (1 - xi) ** 2)
    assert ((eta >= 0) & (eta <= 1)).all()
    return -torch.log(top / (secant + bend * xi * (1 - xi)) ** 2)[:, 0]


def _fluxes(
    beta: float, split: Split, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """s and u as widely spread as the theory has them, and a third more."""
    n1, n2 = split.areas
    s = rng.normal(0.0, 1.3 * math.sqrt((n1 + n2) / beta), n)
    u = rng.normal(0.0, 1.3 * math.sqrt(n1 * n2 / (n1 + n2) / beta), n) + (n1 / (n1 + n2) - 0.5) * s
    s, u = ((angle + np.pi) % (2 * np.pi) - np.pi for angle in (s, u))
    return s, u


def _flux_density(beta: float, n: int, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """f_n(t) = sum_k (I_k/I_0)^n exp(ikt), relative to the uniform density."""
    k = np.arange(1, 400)
    return 1.0 + 2.0 * np.cos(np.multiply.outer(t, k)) @ (ive(k, beta) / ive(0, beta)) ** n


def _exact_density(beta: float, split: Split, s: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """p(u|s) = f_n1(s/2 + u) f_n2(s/2 - u) / f_n1+n2(s)."""
    n1, n2 = split.areas
    numerator = _flux_density(beta, n1, 0.5 * s + u) * _flux_density(beta, n2, 0.5 * s - u)
    return numerator / _flux_density(beta, n1 + n2, s)


def _compared(split: Split, beta: float, tabulated: float, rng: np.random.Generator) -> tuple[float, float | None]:
    """Tables of one coupling against the density of another at random s and u, where its sum has digits.

    The root mean square of the log density's difference, and the relative error of beta that fits it, where the
    density depends on beta.
    """
    conditioner = ExactConditioner([TORUS, split], tabulated, 64, 129, 768)
    s, u = _fluxes(beta, split, 6000, rng)
    p, total = _exact_density(beta, split, s, u), _flux_density(beta, sum(split.areas), s)
    known = (total > 1e-4) & (p > 1e-3)
    assert known.sum() > 3000
    s, u, p = s[known], u[known], p[known]
    difference = _density(conditioner, *map(torch.from_numpy, (s, u))).numpy() - np.log(p)
    weights = np.minimum(p, 1.0)  # of the tails less
    rms = math.sqrt(float(weights @ difference**2 / weights.sum()))
    by_beta = (np.log(_exact_density(1.01 * beta, split, s, u)) - np.log(p)) / 0.01  # d log p / d log beta
    if by_beta.std() < 1e-3:
        return rms, None
    return rms, float(weights * by_beta @ difference / (weights * by_beta @ by_beta))


@BETAS
@EVERY
def test_exact_tables_draw_the_exact_density(split: Split, beta: float, rng: np.random.Generator) -> None:
    """-log slope against the sum over characters.

    The tables are interpolated between values of |s|; where halves are unequal the narrow peaks of a large beta move
    by many bins from one to the next, which costs accuracy in their tails. The coupling that fits them is beta.
    """
    rms, fitted = _compared(split, beta, beta, rng)
    assert rms < (5e-3 if split.equal or beta < 10 else 5e-2)
    if fitted is None:  # of large regions at a small beta every share is equally likely
        assert rms < 1e-5
    else:
        assert abs(fitted) < 2e-3


def test_tables_of_a_coupling_one_per_cent_off_are_told(rng: np.random.Generator) -> None:
    for split in HALVES[:3]:
        _, fitted = _compared(split, 2.0, 2.02, rng)
        assert fitted is not None
        assert 0.007 < fitted < 0.013


@EVERY
def test_structured_tables_draw_the_normalised_product_of_its_functions(
    split: Split, generator: torch.Generator
) -> None:
    conditioner = StructuredConditioner([TORUS, split], 64, 49, 6, 384, 2.0)
    with torch.no_grad():
        for weight in conditioner.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    first, second = (values.detach()[1].numpy() for values in conditioner._functions())
    theta = np.linspace(0.0, np.pi, 385)
    knots = np.linspace(0.0, np.pi, 49)

    def log_p(s: float, u: NDArray[np.float64]) -> NDArray[np.float64]:
        def even(values: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
            angle = np.abs((angle + np.pi) % (2 * np.pi) - np.pi)
            return np.interp(angle, theta, values)

        return even(first, 0.5 * s + u) + even(second, 0.5 * s - u)

    grid = np.arange(-384, 384) * (np.pi / 384)
    for s in knots[::6]:
        expected = log_p(s, grid)
        expected = expected - np.log(np.exp(expected).mean())
        found = _density(conditioner, torch.full((768,), s, dtype=torch.float64), torch.from_numpy(grid)).numpy()
        p = np.exp(expected) / np.exp(expected).sum()
        wrong = 1.02 * log_p(s, grid)  # a planted error
        wrong = wrong - np.log(np.exp(wrong).mean())
        rms = [math.sqrt(float(p @ (found - one) ** 2)) for one in (expected, wrong)]
        assert rms[0] < 3e-3
        assert rms[1] > 2 * rms[0]
        assert abs(float(np.exp(found).mean()) - 1.0) < 1e-3


def test_even_functions_are_those_of_the_docstring(generator: torch.Generator) -> None:
    conditioner = StructuredConditioner([TORUS, Split((1, 1), (1, 2))], 16, 25, 3, 384, 1.7)
    with torch.no_grad():
        for half in conditioner.halves.values():
            half.harmonics.copy_(torch.tensor([0.2, -0.1, 0.3], dtype=torch.float64))
    first, second = (values.detach().numpy() for values in conditioner._functions())
    theta = np.linspace(0.0, np.pi, 385)
    cosines = 0.2 * np.cos(theta) - 0.1 / 2 * np.cos(2 * theta) + 0.3 / 3 * np.cos(3 * theta)
    np.testing.assert_allclose(first[1], 1.7 * np.cos(theta) + cosines, atol=1e-12)
    np.testing.assert_allclose(second[1], np.log(np.i0(3.4 * np.cos(theta / 2))) + cosines, atol=1e-6)
    normal = sum(np.exp(-0.5 * 1.7 / 8 * (theta + 2 * np.pi * k) ** 2) for k in range(-3, 4))
    np.testing.assert_allclose(first[0], np.log(normal) + cosines, atol=1e-12)
    np.testing.assert_array_equal(first[0], second[0])  # equal halves have one function


@pytest.mark.parametrize("beta", [0.0, 2.0, 300.0])
def test_the_structured_flow_starts_near_the_target(beta: float, generator: torch.Generator) -> None:
    """The base knows single plaquettes and pairs; for a narrow one the wrapped normal is exact too."""
    flow = multiscale((4, 4), WilsonU1(beta), conditioner="structured")
    ess = effective_sample_size(evaluate(flow, WilsonU1(beta), 2000, generator))
    assert ess.value > 0.7
    other = effective_sample_size(evaluate(flow, WilsonU1(beta + 1.0 + beta), 2000, generator))
    assert other.value < 0.3


def _splits_of(conditioner: Conditioner) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Widths and heights of all bins, all slopes, and the spans."""
    splines = conditioner.splines().detach()
    spans = splines[..., :2, -1] - splines[..., :2, 0]
    return splines[..., 0, :].diff(), splines[..., 1, :].diff(), splines[..., 2, :], spans


def _assert_valid(conditioner: Conditioner) -> None:
    widths, heights, slopes, spans = _splits_of(conditioner)
    for values in (widths, heights, slopes):
        assert values.isfinite().all()
        assert values.min() > 0
    turns = torch.tensor([math.pi if odd else 2 * math.pi for odd in conditioner.odd], dtype=torch.float64)
    torch.testing.assert_close(spans, turns[:, None, None].expand_as(spans), atol=1e-12, rtol=0)
    circular = [k for k, odd in enumerate(conditioner.odd) if not odd]
    torch.testing.assert_close(slopes[circular, :, 0], slopes[circular, :, -1], atol=0, rtol=1e-6)
    starts = torch.tensor([0.0 if odd else -math.pi for odd in conditioner.odd], dtype=torch.float64)[:, None]
    for which in (0, 1):
        first = conditioner.splines().detach()[:, :, which, 0]
        torch.testing.assert_close(first, starts.expand_as(first), atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [0.0, 1.0, 30.0])
def test_mlp_tables_are_valid_at_extreme_weights(size: float, generator: torch.Generator) -> None:
    conditioner = NetworkConditioner([TORUS, *HALVES], 12, 49, (32, 32))
    with torch.no_grad():
        for network in conditioner._layers():
            network.initialise(generator)
            network.weights[-1].normal_(0.0, 0.1 * size, generator=generator)
            network.biases[-1].normal_(0.0, size, generator=generator)
    _assert_valid(conditioner)


@pytest.mark.parametrize(("kappa", "size"), [(0.0, 0.0), (2.0, 1.0), (2.0, 10.0), (300.0, 1.0)])
def test_structured_tables_are_valid_at_extreme_weights(kappa: float, size: float, generator: torch.Generator) -> None:
    conditioner = StructuredConditioner([TORUS, *HALVES], 64, 25, 16, 384, kappa)
    with torch.no_grad():
        for half in conditioner.halves.values():
            half.harmonics.normal_(0.0, size, generator=generator)
    _assert_valid(conditioner)


@pytest.mark.parametrize("beta", [0.0, 50.0, 300.0])
def test_exact_tables_are_valid(beta: float) -> None:
    _assert_valid(ExactConditioner([TORUS, *HALVES], beta, 64, 129, 768))


@pytest.mark.parametrize("name", ["mlp", "structured"])
def test_gradients_are_finite_at_extreme_weights(name: str, generator: torch.Generator) -> None:
    flow = multiscale((3, 5), WilsonU1(2.0), conditioner=name)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    x, log_q = flow.sample(50, generator)
    assert x.isfinite().all()
    gradients = torch.autograd.grad((WilsonU1(2.0)(x) + log_q).mean(), list(flow.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("shape", [(4, 4), (6, 10), (3, 5)], ids=str)
def test_mlp_starts_as_the_identity(shape: tuple[int, int], generator: torch.Generator) -> None:
    flow = multiscale(shape, WilsonU1(2.0))
    initialise(flow, generator)
    z = flow.prior.sample(5, generator)
    for x, log_det in (flow.transform.forward(z), flow.transform.inverse(z)):
        torch.testing.assert_close(x, z, atol=1e-12, rtol=0)
        torch.testing.assert_close(log_det, torch.zeros(5).double(), atol=1e-11, rtol=0)
    assert (mlp_tree(shape).transform.forward(z)[0] - z).abs().max() > 0.1


EXACT = [
    ((16, 16), 6.0, 8000),
    ((6, 10), 2.0, 8000),
    ((3, 5), 2.5, 8000),
    ((16, 16), 20.0, 4000),
    ((64, 64), 6.0, 2000),
]


@pytest.mark.parametrize(("shape", "beta", "n"), EXACT, ids=str)
def test_exact_needs_no_training(shape: tuple[int, int], beta: float, n: int, generator: torch.Generator) -> None:
    """ESS and log Z; with densities 2 % off both are found wrong."""
    action, exact = WilsonU1(beta), ExactU1(beta, shape[0] * shape[1])
    log_w = evaluate(multiscale(shape, action, conditioner="exact"), action, n, generator, 500)
    assert effective_sample_size(log_w).value > 0.999
    found = log_partition(log_w)
    assert found.error < 1e-3
    assert abs(found.value - exact.log_z) < 4.5 * found.error
    wrong = ExactU1(1.0001 * beta, shape[0] * shape[1])
    assert abs(found.value - wrong.log_z) > 4.5 * found.error
    off = evaluate(multiscale(shape, WilsonU1(1.02 * beta), conditioner="exact"), action, n, generator, 500)
    ess = effective_sample_size(off)
    assert ess.value + 4.5 * ess.error < 0.999


@pytest.mark.parametrize("name", ["structured", "exact"])
def test_plaquettes_too_narrow_for_the_tables_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="tabulated for beta between 0 and 300, got 301"):
        multiscale((4, 4), WilsonU1(301.0), conditioner=name)  # type: ignore[arg-type]


def test_exact_is_of_the_wilson_action_alone() -> None:
    with pytest.raises(ValueError, match="conditioner = 'exact' is for the Wilson action, not for ImprovedU1"):
        multiscale((4, 4), ImprovedU1(3.0, 0.1), conditioner="exact")


BAD = [
    ({"n_bins": 0}, "n_bins must be between 2 and 256, got 0"),
    ({"n_bins": 1}, "n_bins must be between 2 and 256, got 1"),
    ({"n_knots": 1}, "n_knots must be between 2 and 1000, got 1"),
    ({"hidden": ()}, r"hidden must be .*got \[\]"),
    ({"hidden": (8, 0)}, r"hidden must be .*got \[8, 0\]"),
    ({"conditioner": "exact", "n_bins": 1000}, "n_bins must be between 2 and 256, got 1000"),
    ({"conditioner": "exact", "n_knots": 100}, "n_knots must be 1 more than a divisor of 384.*got 100"),
    ({"conditioner": "structured", "n_knots": 129}, "n_knots must be 1 more than a divisor of 192.*got 129"),
    ({"conditioner": "structured", "n_harmonics": 0}, "n_harmonics must be between 1 and 192, got 0"),
    ({"conditioner": "none"}, "conditioner must be one of mlp, structured, exact, got 'none'"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=str)
def test_values_out_of_range_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        multiscale((4, 4), WilsonU1(2.0), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"n_bins": 2, "n_knots": 2, "hidden": (1,)},
        {"n_bins": 256},
        {"conditioner": "structured", "n_bins": 2, "n_knots": 2, "n_harmonics": 1},
        {"conditioner": "structured", "n_bins": 256, "n_knots": 193, "n_harmonics": 192},
        {"conditioner": "exact", "n_bins": 2, "n_knots": 2},
        {"conditioner": "exact", "n_bins": 256, "n_knots": 385},
    ],
    ids=str,
)
def test_the_extremes_of_the_ranges_are_bijections(options: dict[str, object], generator: torch.Generator) -> None:
    flow = multiscale((3, 4), WilsonU1(2.0), **options)  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
        x, log_q = flow.sample(20, generator)
        torch.testing.assert_close(flow.log_prob(x), log_q, atol=1e-7, rtol=0)


@pytest.mark.parametrize("build", [mlp_tree, structured_tree])
def test_kernels_give_the_same_bits_for_any_threads(build, generator: torch.Generator) -> None:
    """Maps, gradients, rewards and baselines, of a batch that no number of parts divides."""
    transform = build((6, 4)).transform
    assert isinstance(transform, Multiscale)
    splines, odd = transform.conditioner.tables()
    arrays = splines.detach().numpy(), np.array(odd), transform.tree.nodes
    shares = (6.0 * torch.rand(53, 23, generator=generator, dtype=torch.float64) - 3.0).numpy()
    g = torch.randn(53, 24, generator=generator, dtype=torch.float64).numpy()

    def everything() -> list[NDArray[np.float64]]:
        p, slopes, fluxes = tree_u1.forward(shares, *arrays)
        out = [p, slopes, fluxes, *tree_u1.inverse(p, *arrays)]
        out += tree_u1.forward_gradient(shares, fluxes, *arrays, g, g[:, 0].copy(), True)
        out += tree_u1.inverse_gradient(shares, fluxes, *arrays, g[:, 1:].copy(), g[:, 0].copy(), True)
        out += [tree_u1.density_gradient(shares, fluxes, *arrays, g[:, 1:].copy())]
        earned = tree_rewards.rewards(slopes, p, arrays[2])
        equations = tree_rewards.normal_equations(earned, fluxes, arrays[2], len(odd), 9)
        fits, inverses = g[: len(odd), :9].copy(), np.linalg.inv(equations[0] + np.eye(9))
        return [*out, earned, *equations, tree_rewards.advantages(earned, fluxes, arrays[2], fits, inverses)]

    one = everything()
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    for value, other in zip(one, everything()):
        np.testing.assert_array_equal(value, other)


def test_grouping_changes_no_bit_of_the_map(generator: torch.Generator) -> None:
    transform = mlp_tree((6, 4)).transform
    assert isinstance(transform, Multiscale)
    tables = TreeTables(*(transform.conditioner.tables()))
    shares = 6.0 * torch.rand(20, 23, generator=generator, dtype=torch.float64) - 3.0
    whole = tree_forward(shares, tables, transform.tree)
    parts = [tree_forward(some, tables, transform.tree) for some in shares.split(7)]
    for k in range(2):
        assert torch.equal(whole[k], torch.cat([part[k] for part in parts]))
