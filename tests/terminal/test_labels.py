"""Observables have short names, and no two the same."""

import pytest

from lattice_flows.terminal import labels

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("name", "plain", "page"),
    [
        ("plaquette", "plaquette", "plaquette"),
        ("topological_charge_squared", "Q^2", "Q²"),
        ("wilson_loop_12x3", "W(12x3)", "W(12×3)"),
        ("polyakov_correlator_1_4", "P_1(4)", "P_1(4)"),
        ("something_else", "something_else", "something_else"),
    ],
)
def test_label(name: str, plain: str, page: str):
    assert labels.label(name)[:2] == (plain, page)


def test_labels_are_distinct():
    names = ["plaquette", "topological_charge", "topological_charge_squared", "topological_susceptibility"]
    names += [f"wilson_loop_{r}x{t}" for r in (1, 2, 11) for t in (1, 2, 11)]
    for kind in range(3):
        assert len({labels.label(name)[kind] for name in names}) == len(names)
