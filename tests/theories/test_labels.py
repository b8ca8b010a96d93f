"""Quantities have short names, and no two of a theory the same."""

import pytest

from lattice_flows.theories import Flowed, Phi4, PolyakovCorrelator, WilsonLoop, WilsonU1, creutz_ratio

pytestmark = pytest.mark.quick

SHAPE = (8, 8)
OBSERVABLES = {
    "u1": [
        *WilsonU1(1.0).observables(SHAPE),
        *creutz_ratio(2, 3),
        PolyakovCorrelator(1, 4),
        *(WilsonLoop(1, t) for t in (1, 11)),
        Flowed(WilsonLoop(12, 3), 0.5),
    ],
    "phi4": [*Phi4(1.0, 1.0).observables(SHAPE)],
}


@pytest.mark.parametrize(
    ("theory", "name", "plain", "page"),
    [
        ("u1", "plaquette", "plaquette", "plaquette"),
        ("u1", "topological_charge_squared", "Q^2", "Q²"),
        ("u1", "wilson_loop_3x12_t0.5", "W(3x12) (t=0.5)", "W(3×12) (t = 0.5)"),
        ("u1", "polyakov_correlator_1_4", "P_1(4)", "P_1(4)"),
        ("phi4", "abs_magnetisation", "|M|", "|M|"),
        ("phi4", "effective_mass_2", "m_eff(2)", "m_eff(2)"),
    ],
)
def test_label(theory, name, plain, page):
    quantities = {q.name: q for one in OBSERVABLES[theory] for q in one.quantities(SHAPE)}
    assert quantities[name].short[:2] == (plain, page)


@pytest.mark.parametrize("theory", OBSERVABLES)
def test_labels_are_distinct(theory):
    found = {q.name: q.short for one in OBSERVABLES[theory] for q in one.quantities(SHAPE)}
    for kind in range(3):
        assert len({label[kind] for label in found.values()}) == len(found)
