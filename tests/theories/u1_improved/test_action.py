"""U(1) with rectangles: the definition written out, its limits, and quadrature on the smallest torus."""

import math

import numpy as np
import pytest
import torch
from improved_u1_oracle import two_by_two

from lattice_flows.lattice import conjugate, gauge_transform, plaquette, reflect, translate
from lattice_flows.theories import Action, ImprovedU1, Phi4, WilsonU1

pytestmark = pytest.mark.quick

THEORIES = [ImprovedU1(6.0, 1.0 / 12.0), ImprovedU1(3.0, -1.0 / 12.0), ImprovedU1(1.3, 0.125), ImprovedU1(2.0, 0.0)]
SHAPES = [(2, 2), (2, 5), (3, 2), (4, 3), (3, 7), (8, 8)]


@pytest.fixture(params=THEORIES, ids=lambda action: f"beta{action.beta}-c1{action.c1:+.3f}")
def action(request):
    return request.param


@pytest.fixture(params=SHAPES, ids=str)
def x(request, generator):
    return 2.0 * np.pi * (torch.rand(3, 2, *request.param, generator=generator, dtype=torch.float64) - 0.5)


def loop_angle(links, n, steps):
    """The sum of the angles along a path of steps +-1 (axis 0) and +-2 (axis 1) from n, one link at a time."""
    n, shape, total = list(n), links.shape[1:], 0.0
    for step in steps:
        axis = abs(step) - 1
        if step < 0:
            n[axis] = (n[axis] - 1) % shape[axis]
        total += math.copysign(1.0, step) * float(links[axis, n[0], n[1]])
        if step > 0:
            n[axis] = (n[axis] + 1) % shape[axis]
    return total


PLAQUETTE = (1, 2, -1, -2)
RECTANGLES = ((1, 1, 2, -1, -1, -2), (1, 2, 2, -1, -2, -2))


def slow_action(action, links):
    """The definition, loop by loop, link by link."""
    total = 0.0
    for n in np.ndindex(*links.shape[1:]):
        total += action.beta * (1 - 8 * action.c1) * (1 - math.cos(loop_angle(links, n, PLAQUETTE)))
        for steps in RECTANGLES:
            total += action.beta * action.c1 * (1 - math.cos(loop_angle(links, n, steps)))
    return total


def test_the_definition_loop_by_loop(action, x):
    expected = [slow_action(action, links) for links in x.numpy()]
    np.testing.assert_allclose(action(x).numpy(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(action.of_plaquettes(plaquette(x, 0, 1)).numpy(), expected, rtol=1e-12, atol=1e-12)
    wrong = ImprovedU1(action.beta, action.c1 + 0.001)  # a planted error
    assert not np.allclose(wrong(x).numpy(), expected, rtol=1e-4)


def finite_difference_error(action, x):
    """The largest difference of the force from five-point differences of S, over four links."""
    h, worst, force = 1e-3, 0.0, action.force(x).flatten(1)
    for index in (0, x[0].numel() // 2 - 1, x[0].numel() // 2, x[0].numel() - 1):
        step = torch.zeros_like(x).flatten(1)
        step[:, index] = h
        step = step.view_as(x)
        near, far = action(x + step) - action(x - step), action(x + 2 * step) - action(x - 2 * step)
        worst = max(worst, float((force[:, index] + (8 * near - far) / (12 * h)).abs().max()))
    return worst


def test_force_is_minus_the_gradient(action, x):
    assert finite_difference_error(action, x) < 1e-8
    torch.testing.assert_close(action.force(x), Action.force(action, x), atol=1e-12, rtol=0)


class ForceOfHalfTheRectangles(ImprovedU1):
    """A planted error: each plaquette feels the rectangles that begin at it, not those that end there."""

    def force(self, x):
        p = plaquette(x, 0, 1)
        plain, rectangle = self.loop_couplings
        slope = plain * torch.sin(p) + rectangle * sum(torch.sin(p + p.roll(-1, axis)) for axis in (1, 2))
        return torch.stack([slope.roll(1, 2) - slope, slope - slope.roll(1, 1)], dim=1)


def test_a_force_without_half_the_rectangles_is_caught(x):
    assert finite_difference_error(ForceOfHalfTheRectangles(6.0, 1.0 / 12.0), x) > 1e-3
    assert finite_difference_error(ForceOfHalfTheRectangles(6.0, 0.0), x) < 1e-8  # for lack of rectangles only


def test_symmetries(action, x, generator):
    alpha = torch.randn(3, *x.shape[2:], generator=generator, dtype=torch.float64)
    images = [gauge_transform(x, alpha), conjugate(x), translate(x, (1, 1)), reflect(x, 0), reflect(x, 1)]
    for image in images:
        torch.testing.assert_close(action(image), action(x), rtol=1e-12, atol=1e-12)
    turned = torch.stack([x[:, 1].mT, x[:, 0].mT], dim=1)  # the axes exchanged
    torch.testing.assert_close(action(turned), action(x), rtol=1e-12, atol=1e-12)


def test_without_rectangles_it_is_the_wilson_action(x):
    wilson, improved = WilsonU1(2.5), ImprovedU1(2.5, 0.0)
    torch.testing.assert_close(improved(x), wilson(x), rtol=1e-14, atol=0)
    torch.testing.assert_close(improved.force(x), wilson.force(x), rtol=0, atol=1e-14)
    assert improved.closed_forms((4, 6)) == wilson.closed_forms((4, 6))
    assert improved.direct_sampler() is not None
    assert ImprovedU1(2.5, 0.1).direct_sampler() is None


def test_smooth_fields_have_the_wilson_action(generator):
    """c0 + 8 c1 = 1: what the normalisation is for."""
    x = 2.0 * np.pi * torch.rand(1, 2, 24, 24, generator=generator, dtype=torch.float64)
    spectrum = torch.fft.rfft2(x)
    spectrum[..., 2:, :], spectrum[..., 2:] = 0.0, 0.0
    smooth = 1e-3 * torch.fft.irfft2(spectrum, s=(24, 24))
    ratio = float(ImprovedU1(3.0, -1.0 / 12.0)(smooth) / WilsonU1(3.0)(smooth))
    assert abs(ratio - 1.0) < 0.03
    assert abs(float(ImprovedU1(3.0, 0.1)(smooth) / WilsonU1(3.0)(smooth)) - 1.0) < 0.03


def test_multiples():
    action = ImprovedU1(3.0, 0.1)
    assert action.multiple_of(ImprovedU1(2.0, 0.1)) == 1.5
    assert action.multiple_of(ImprovedU1(3.0, 0.2)) is None
    assert action.multiple_of(WilsonU1(3.0)) is None
    assert ImprovedU1(3.0, 0.0).multiple_of(WilsonU1(2.0)) == 1.5
    assert action.multiple_of(Phi4(1.0, 1.0)) is None
    assert action.multiple_of(ImprovedU1(0.0, 0.1)) is None


@pytest.mark.parametrize(("beta", "c1", "name"), [(-1.0, 0.1, "beta"), (1.0, math.nan, "c1"), (1e6, -1.0, "c1")])
def test_impossible_couplings_are_refused(beta, c1, name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        ImprovedU1(beta, c1)


def test_other_dimensions_are_refused():
    action = ImprovedU1(1.0, 0.1)
    assert action.event_shape((4, 6)) == (2, 4, 6)
    for shape in ((4,), (4, 4, 4)):
        with pytest.raises(ValueError, match="two dimensions"):
            action.event_shape(shape)
    with pytest.raises(ValueError, match="takes links"):
        action(torch.zeros(1, 3, 4, 4, 4))


def test_quadrature_knows_the_closed_form():
    """And d log Z / dc1 is -<dS/dc1>."""
    exact = WilsonU1(1.5).closed_forms((2, 2))
    found = two_by_two(ImprovedU1(1.5, 0.0))
    assert found.log_z == pytest.approx(exact.log_z, abs=1e-12)
    assert found.plaquette == pytest.approx(exact.plaquette, abs=1e-12)
    middle = two_by_two(ImprovedU1(1.5, 0.07))
    slope = 1.5 * 4 * (2 * (1 - middle.wilson_loop_1x2) - 8 * (1 - middle.plaquette))

    def difference(h):
        return (two_by_two(ImprovedU1(1.5, 0.07 + h)).log_z - two_by_two(ImprovedU1(1.5, 0.07 - h)).log_z) / (2 * h)

    assert (4.0 * difference(5e-5) - difference(1e-4)) / 3.0 == pytest.approx(-slope, abs=1e-8)
