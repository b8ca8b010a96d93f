"""Loops and symmetries of link fields, in two and three dimensions."""

import math
from itertools import combinations

import pytest
import torch
from random_fields import random_field

from lattice_flows.lattice import (
    CIRCLE,
    conjugate,
    gauge_transform,
    plaquette,
    polyakov_loop,
    reflect,
    topological_charge,
    translate,
    wilson_loop,
)

pytestmark = pytest.mark.quick

SHAPES = [(4, 4), (4, 6), (5, 3), (3, 4, 5)]


@pytest.fixture(params=SHAPES, ids=str)
def links(request, generator):
    shape = request.param
    return random_field(CIRCLE, 3, (len(shape), *shape), generator)


def planes(links):
    return list(combinations(range(links.shape[1]), 2))


def test_plaquette_is_its_definition(links):
    for mu, nu in planes(links):
        site = tuple(length - 1 for length in links.shape[2:])  # where every neighbour wraps around

        def link(rho, *steps, site=site):
            n = list(site)
            for axis in steps:
                n[axis] = (n[axis] + 1) % links.shape[2 + axis]
            return links[(slice(None), rho, *n)]

        expected = link(mu) + link(nu, mu) - link(mu, nu) - link(nu)
        torch.testing.assert_close(plaquette(links, mu, nu)[(slice(None), *site)], expected)


def test_wilson_loop_is_the_sum_of_its_plaquettes(links):
    for mu, nu in planes(links):
        inside = plaquette(links, mu, nu)
        total = sum(torch.roll(inside, (-i, -j), dims=(mu + 1, nu + 1)) for i in range(2) for j in range(3))
        torch.testing.assert_close(wilson_loop(links, mu, nu, 2, 3), total)


def test_loops_are_gauge_invariant(links, generator):
    alpha = torch.randn(links.shape[0], *links.shape[2:], generator=generator, dtype=torch.float64)
    moved = gauge_transform(links, alpha)
    assert not torch.allclose(moved, links)
    for mu, nu in planes(links):
        torch.testing.assert_close(wilson_loop(moved, mu, nu, 1, 2), wilson_loop(links, mu, nu, 1, 2))
    for mu in range(links.shape[1]):
        torch.testing.assert_close(polyakov_loop(moved, mu), polyakov_loop(links, mu))


def test_two_polyakov_loops_enclose_the_plaquettes_between(links):
    for mu, nu in planes(links):
        between = plaquette(links, mu, nu).sum(mu + 1, keepdim=True)  # a strip around axis mu
        line = polyakov_loop(links, mu).unsqueeze(mu + 1)
        torch.testing.assert_close(between, line - torch.roll(line, -1, dims=nu + 1))


def test_reflection_twice_is_the_identity(links):
    for mu in range(links.shape[1]):
        mirrored = reflect(links, mu)
        assert not torch.allclose(mirrored, links)
        torch.testing.assert_close(reflect(mirrored, mu), links)


def test_reflected_plaquette_sits_at_the_mirrored_site_with_the_opposite_sign(links):
    for mu, nu in planes(links):
        mirrored = plaquette(reflect(links, mu), mu, nu)
        expected = -plaquette(links, mu, nu).flip(mu + 1)
        torch.testing.assert_close(mirrored, expected)


def test_translation_moves_plaquettes(links):
    offset = tuple(range(1, links.shape[1] + 1))
    for mu, nu in planes(links):
        expected = torch.roll(plaquette(links, mu, nu), offset, dims=tuple(range(1, links.ndim - 1)))
        torch.testing.assert_close(plaquette(translate(links, offset), mu, nu), expected)


def test_charge_is_an_odd_integer_function(generator):
    links = random_field(CIRCLE, 50, (2, 6, 4), generator)
    charge = topological_charge(links)
    torch.testing.assert_close(charge, charge.round(), atol=1e-12, rtol=0)
    assert charge.round().unique().numel() > 1
    for image in (conjugate(links), reflect(links, 0), reflect(links, 1)):
        torch.testing.assert_close(topological_charge(image), -charge)
    torch.testing.assert_close(topological_charge(translate(links, (1, 2))), charge)


def test_charge_refuses_three_dimensions():
    with pytest.raises(ValueError, match="2D links"):
        topological_charge(torch.zeros(1, 3, 4, 4, 4))


def test_wrap_lands_in_the_half_open_interval():
    below_pi = math.nextafter(math.pi, 0.0)
    angles = torch.tensor([math.pi, -math.pi, 3 * math.pi, -below_pi, below_pi, 100.0, -1e-17], dtype=torch.float64)
    wrapped = CIRCLE.wrap(angles)
    assert ((wrapped >= -math.pi) & (wrapped < math.pi)).all()
    torch.testing.assert_close(torch.cos(wrapped), torch.cos(angles))
    torch.testing.assert_close(torch.sin(wrapped), torch.sin(angles), atol=1e-13, rtol=0)
    assert wrapped[0] == -math.pi
