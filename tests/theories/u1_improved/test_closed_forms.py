"""Closed forms of U(1) with rectangles: other ways to the same numbers, on lattices of any sides and by chains."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from improved_u1_oracle import exact_sector, log_z_by_weights, two_by_two, weighted_draws

from lattice_flows.statistics import pull
from lattice_flows.theories import ExactU1, ImprovedU1, PolyakovCorrelator, PolyakovModulus
from lattice_flows.theories.u1_improved import closed_forms
from lattice_flows.theories.u1_improved.closed_forms import ExactImprovedU1, exact_improved_u1

pytestmark = pytest.mark.quick

POSITIVE, NEGATIVE, FREE = ImprovedU1(6.0, 1.0 / 12.0), ImprovedU1(3.0, -1.0 / 12.0), ImprovedU1(2.4, 1.0 / 12.0)
THEORIES = pytest.mark.parametrize("action", [POSITIVE, NEGATIVE, FREE], ids=["positive", "negative", "free"])
SHAPES = [(2, 2), (3, 3), (2, 3), (5, 4), (6, 6), (6, 10), (12, 12), (7, 9)]
POINTS = json.loads((Path(__file__).parents[2] / "reference" / "u1_improved.json").read_text(encoding="utf-8"))[
    "points"
]


def exact(action, shape):
    found = action.closed_forms(shape)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("action", "side", "log_z"),
    [(POSITIVE, 8, -98.552497), (NEGATIVE, 8, -101.194688), (POSITIVE, 16, -394.216988)],
    ids=["positive", "negative", "large"],
)
def test_log_z_to_six_digits(action, side, log_z):
    """As HOTRG finds it, with a truncation of another kind."""
    found = exact(action, (side, side))
    assert found.log_z == pytest.approx(log_z, abs=1.5e-6)
    assert found.log_z_uncertainty < 1e-7


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_without_rectangles_on_any_sides(shape):
    beta = 2.0
    known, found = ExactU1(beta, math.prod(shape)), ExactImprovedU1(beta, 0.0, shape)
    assert found.log_z == pytest.approx(known.log_z, abs=1e-9)
    assert found.plaquette == pytest.approx(known.plaquette, abs=1e-9)
    assert found.rectangular_loop(1, 2) == pytest.approx(known.rectangular_loop(1, 2), abs=1e-6)
    assert found.action == pytest.approx(known.action, abs=1e-6)
    assert found.charge_squared == pytest.approx(known.charge_squared, abs=1e-8)
    assert found.b2 == pytest.approx(known.b2, abs=1e-6)
    np.testing.assert_allclose(found.charge_distribution(6), known.charge_distribution(6), atol=1e-9)
    angles = np.linspace(0.0, np.pi, 5)
    np.testing.assert_allclose(found.theta_ratio(angles), known.theta_ratio(angles), atol=1e-8)


@THEORIES
def test_the_smallest_torus_against_quadrature(action):
    known, found = two_by_two(action, 60), exact(action, (2, 2))
    assert found.log_z == pytest.approx(known.log_z, abs=1e-8)
    assert found.plaquette == pytest.approx(known.plaquette, abs=1e-7)
    assert found.rectangular_loop(1, 2) == pytest.approx(known.wilson_loop_1x2, abs=1e-7)
    assert found.action == pytest.approx(known.action, abs=1e-6)


@pytest.mark.parametrize(("shape", "n_nodes"), [((3, 2), 16), ((5, 2), 16), ((8, 2), 16), ((3, 3), 9)], ids=str)
@pytest.mark.parametrize("c1", [-0.1, 0.125])
def test_narrow_tori_without_truncation(shape, n_nodes, c1):
    """A transfer matrix between whole rows."""
    action = ImprovedU1(0.6, c1)
    nodes = 2.0 * np.pi * np.arange(n_nodes) / n_nodes
    weights = np.full(n_nodes, 1.0 / n_nodes)
    z = sum(exact_sector(action, shape, nodes, weights, n) for n in range(n_nodes))
    assert exact(action, shape).log_z == pytest.approx(math.log(z), abs=1e-7)
    assert exact(action, shape[::-1]).log_z == pytest.approx(math.log(z), abs=1e-7)


@pytest.mark.parametrize("c1", [-0.1, 0.125])
def test_theta_on_a_narrow_torus_without_truncation(c1):
    """The plaquettes are those from -pi to pi."""
    action, shape, theta = ImprovedU1(0.9, c1), (5, 2), 2.0
    nodes, weights = np.polynomial.legendre.leggauss(22)
    z, at_theta = (
        sum(exact_sector(action, shape, np.pi * nodes, 0.5 * weights, n + shift) for n in range(-4, 5))
        for shift in (0.0, theta / (2.0 * np.pi))
    )
    assert float(exact(action, shape).theta_ratio(theta)) == pytest.approx(at_theta / z, abs=1e-7)


@pytest.mark.parametrize(("action", "beta"), [(POSITIVE, 3.3), (NEGATIVE, 4.0)], ids=["positive", "negative"])
def test_log_z_by_weights_of_direct_draws(action, beta, seed):
    shape, wrong = (3, 5), ImprovedU1(action.beta, action.c1 + 0.004)  # a planted error
    _, log_w = weighted_draws(action, shape, beta, 50_000, seed)
    found, error = log_z_by_weights(log_w, beta, shape)
    assert abs(pull(found, error, exact(action, shape).log_z)) < 4.5
    assert abs(pull(found, error, exact(wrong, shape).log_z)) > 4.5


@pytest.mark.parametrize("action", [POSITIVE, NEGATIVE], ids=["positive", "negative"])
def test_the_action_is_the_slope_of_log_z(action):
    """d log Z / d beta = -<S> / beta; a loop that is missing would be seen."""
    h, found = 1e-3, exact(action, (4, 6))
    below, above = (exact(action.scaled(1.0 + k * h), (4, 6)).log_z for k in (-1, 1))
    assert -(above - below) / (2.0 * h) == pytest.approx(found.action, rel=1e-5)


def name_of(point):
    return f"{point['theory']['beta']:g}-{point['theory']['shape'][0]}"


@pytest.mark.parametrize("point", POINTS, ids=name_of)
def test_long_chains_agree(point):
    """Two million configurations of HMC with hops, runs/u1_improved, share nothing with the network."""
    theory, rows = point["theory"], point["observables"]
    found = exact(ImprovedU1(theory["beta"], theory["c1"]), tuple(theory["shape"]))
    known = {
        "plaquette": found.plaquette,
        "wilson_loop_1x2": found.rectangular_loop(1, 2),
        "topological_charge_squared": found.charge_squared,
    }
    pulls = {name: pull(rows[name]["value"], rows[name]["error"], value) for name, value in known.items()}
    for q, share in point["charge_distribution"].items():
        pulls[q] = pull(share["value"], share["error"], found.charge_distribution(abs(int(q)))[0])
    assert max(map(abs, pulls.values())) < 4.5, pulls
    assert all(found.uncertainties[name] < 0.1 * rows[name]["error"] for name in known)


def test_it_says_how_well_it_knows():
    """The change from one bond dimension to the next is larger than what is left after it."""
    found = exact(POSITIVE, (8, 8))
    ladder, _ = found._ladder
    off = np.abs(ladder - ladder[-1])
    assert (off[1:-1] < np.abs(np.diff(ladder))[:-1]).all()
    assert found.as_dict()["log_z_uncertainty"] == pytest.approx(abs(ladder[-1] - ladder[-2]))


def test_in_a_large_volume_log_z_is_extensive():
    """But for z(1) / z(0), which is below 1e-8 here."""
    per_site = exact(POSITIVE, (16, 16)).log_z / 256
    for shape in ((10, 20), (18, 12)):
        found = exact(POSITIVE, shape)
        assert abs(found.log_z - per_site * math.prod(shape)) < found.log_z_uncertainty + 1e-7


CHANGES = [((1.0, 1e-3), 1e-3), ((1.0, 0.5), 0.5), ((1.0, 0.75), 2.25), ((1.0, 2.0), 18.0), ((0.0, 0.0), 0.0)]


@pytest.mark.parametrize(("changes", "left"), CHANGES)
def test_changes_that_hardly_fall_leave_more(changes, left):
    assert closed_forms._left([0.0, changes[0], sum(changes)]) == pytest.approx(left)


def test_charges_are_shares():
    found = exact(NEGATIVE, (8, 8))
    shares = found.charge_distribution(20)
    assert shares.sum() == pytest.approx(1.0, abs=1e-12)
    assert shares.min() > -1e-11
    assert np.arange(-20, 21) ** 2 @ shares == pytest.approx(found.charge_squared)
    assert found.susceptibility == found.charge_squared / 64
    assert found.theta_ratio(0.0) == pytest.approx(1.0)


def test_other_loops_are_not_known():
    found = exact(NEGATIVE, (8, 8))
    assert found.rectangular_loop(2, 2) is None
    assert found.rectangular_loop(1, 1) == found.plaquette
    observables = (*NEGATIVE.observables((8, 8)), PolyakovCorrelator(0, 1), PolyakovModulus(0))
    quantities = [one for observable in observables for one in observable.quantities((8, 8))]
    unknown = {one.name for one in quantities if one.exact and one.exact(found) is None}
    expected = {"wilson_loop_2x2", "creutz_ratio_2x2", "polyakov_correlator_0_1", "polyakov_modulus_squared_0"}
    assert unknown == expected


def test_nothing_is_computed_before_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(closed_forms, "contract", lambda *arguments: pytest.fail("computed"))
    assert ExactImprovedU1(2.0, 0.5, (16, 16)).n_sites == 256


def test_out_of_reach_is_told(monkeypatch, caplog):
    assert ImprovedU1(1e5, 0.1).closed_forms((4, 4)) is None
    assert "must be at most 10000" in caplog.text
    monkeypatch.setattr(closed_forms, "_RUNGS", closed_forms._RUNGS[:3])
    monkeypatch.setattr(closed_forms, "_KNOWN", 1e-12)
    exact_improved_u1.cache_clear()
    assert POSITIVE.closed_forms((8, 8)) is None
    assert "log Z is known to no more than" in caplog.text
    exact_improved_u1.cache_clear()


@pytest.mark.parametrize(("arguments", "message"), [((1.0, 0.1, (4,)), "two sides"), ((1.0, 0.1, (1, 4)), "two sides")])
def test_other_lattices_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExactImprovedU1(*arguments)
