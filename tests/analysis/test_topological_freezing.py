"""What the freezing figure takes from a summary: values, doubtful ones, and bounds."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.quick

SCRIPT = Path(__file__).parents[2] / "analysis" / "topological_freezing.py"
THEORY = {"beta": 6.0, "shape": [16, 16]}


@pytest.fixture(scope="module")
def freezing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("topological_freezing", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ensemble(**changes: Any) -> dict[str, Any]:
    """The summary of 8 chains of 500 configurations of 4 updates with tau_int = 10 configurations, in 60 s."""
    charge = {"tau_int": 10.0, "tau_int_error": 1.0, "n_eff": 200.0, "pull": 1.5, "r_hat": 1.01, "trusted": True}
    charge |= {key: changes.pop(key) for key in list(changes) if key in charge}
    made = {"n_chains": 8, "n_configs": 500, "seconds": 60.0, "threads": 1, "frozen": False, "warnings": []}
    return {**made, "settings": {"n_updates": 4}, "observables": {"topological_charge_squared": charge}, **changes}


def test_value_in_updates_and_seconds(freezing):
    found = freezing.point("hmc", THEORY, ensemble(), changes=900)
    assert found == freezing.Point("hmc", 6.0, 16, "value", 40.0, 60.0 / 200, 0.1, 1.5)


def test_weights_count_by_their_effective_number(freezing):
    found = freezing.point("metadynamics", THEORY, ensemble(n_eff=100.0), changes=900)
    assert (found.kind, found.tau_int, found.cost) == ("value", 80.0, 0.6)
    assert freezing.point("metadynamics", THEORY, ensemble(n_eff=49.0), changes=900).kind == "open"


SHORT = "topological_charge, topological_charge_squared: chains shorter than 10 tau_int each, so nothing is known"


@pytest.mark.parametrize(
    "changes",
    [{"frozen": True, "trusted": False}, {"trusted": False, "warnings": [SHORT]}, {"trusted": False, "r_hat": 2.0}],
    ids=["frozen", "short", "apart"],
)
def test_bound_is_one_tunnelling_for_each_configuration(freezing, changes):
    found = freezing.point("hmc", THEORY, ensemble(**changes), changes=16)
    assert (found.kind, found.tau_int, found.cost) == ("bound", 8 * 500 * 4 / 32, 60.0 / 16)
    never = freezing.point("hmc", THEORY, ensemble(**changes), changes=0)
    assert (never.tau_int, never.cost) == (8 * 500 * 4 / 2, 60.0)


def test_other_doubts_are_open(freezing):
    doubts = ["topological_charge_squared: the chains disagree, R-hat > 1.05", "plaquette: chains shorter than ..."]
    found = freezing.point("hmc", THEORY, ensemble(trusted=False, warnings=doubts), changes=900)
    assert (found.kind, found.tau_int) == ("open", 40.0)


def test_chi_squared_is_that_of_the_values(freezing):
    good = freezing.point("hmc", THEORY, ensemble(), changes=900)
    points = [good, good._replace(pull=-3.0), good._replace(kind="open", pull=9.0), good._replace(pull=None)]
    total, n, probability = freezing.total_chi_squared(points)
    assert (total, n) == (pytest.approx(11.25), 2)
    assert probability == pytest.approx(math.exp(-11.25 / 2))
    assert "outlier" not in freezing.table(points)
    assert "outlier: hmc at beta = 6, 16^2: pull 5.0" in freezing.table([good._replace(pull=5.0)])


def test_every_sampler_is_drawn_in_its_own_look(freezing):
    names = [*freezing.LOOKS, freezing.DIRECT]
    points = [freezing.point(name, THEORY, ensemble(), changes=900) for name in names]
    axes = freezing.draw(points).axes[0]
    assert len(axes.containers) == len(freezing.LOOKS)
    assert len({(colour, marker) for _, colour, marker in freezing.LOOKS.values()}) == len(freezing.LOOKS)
    assert len({text.get_label() for text in freezing.legend()}) == len(names) + 2
