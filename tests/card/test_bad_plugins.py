"""Classes of other packages that are wrong in themselves: each is refused in one line that names the class."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from lattice_flows.card.card import parse_card
from lattice_flows.card.plugins import plugins
from lattice_flows.catalogue import Catalogue, PluginError
from lattice_flows.errors import InputError
from lattice_flows.exit_status import exit_status
from lattice_flows.flows import FLOWS
from lattice_flows.report.page_tables import title
from lattice_flows.samplers import SAMPLERS
from lattice_flows.theories import OBSERVABLES, THEORIES

MODULE = """
import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from lattice_flows.ensembles import FieldSpec
from lattice_flows.flows import FlowPlan
from lattice_flows.lattice import CIRCLE
from lattice_flows.samplers import RandomWalk, Sampler
from lattice_flows.theories import Action, Observable


@dataclass(frozen=True)
class Good(Action):
    beta: float
    space = CIRCLE
    dimensions: ClassVar[range] = range(1, 2)

    def field(self, lattice_shape):
        return FieldSpec("x", ("x0",), lattice_shape)

    def __call__(self, x):
        return -self.beta * torch.cos(x).sum(1)


def function(beta: float):
    return Good(beta)


instance = Good(1.0)


@dataclass(frozen=True)
class Homeless(Action):
    beta: float
    dimensions: ClassVar[range] = range(1, 2)
    field = Good.field
    __call__ = Good.__call__


class Fieldless(Action):
    space = CIRCLE


class Untyped(Good):
    def __init__(self, beta):
        pass


class Loose(Good):
    def __init__(self, **couplings: float):
        pass


@dataclass(frozen=True)
class Undefined(Good):
    other: "Nothing" = None


@dataclass(frozen=True)
class OfArray(Good):
    other: np.ndarray = None


@dataclass(frozen=True)
class Confused(Good):
    def __post_init__(self):
        raise TypeError("oh")


@dataclass(frozen=True)
class Unfielded(Good):
    def field(self, lattice_shape):
        return None


@dataclass(frozen=True)
class Unstored(Good):
    other: complex = field(default_factory=complex)


@dataclass(frozen=True)
class WithName(Good):
    name: str = "x"


@dataclass(frozen=True)
class WithBoundary(Good):
    boundary: str = "x"


class InAClass(Good):
    space = type(CIRCLE)


class InAText(Good):
    space = "circle"


class InNothing(Good):
    space = None


class OfTwo(Good):
    dimensions = 2


class OfNone(Good):
    dimensions = None


class OfEmpty(Good):
    dimensions = range(2, 2)


class Added(Good):
    added = ("beta",)


class NoObservables(Good):
    def observables(self, lattice_shape):
        return None


class ValueOfObservables(Good):
    def observables(self, lattice_shape):
        raise ValueError("oh")


class Abstract(Sampler):
    pass


class Unguided(RandomWalk):
    def __init__(self, width: float = 1.0):
        pass


def walk(action: Action):
    return RandomWalk(action, 1.0)


@dataclass(frozen=True)
class WithChains(RandomWalk):
    n_chains: int = 3


@dataclass(frozen=True)
class WithStart(RandomWalk):
    start: str = "x"


@dataclass(frozen=True)
class WithSampler(RandomWalk):
    sampler: str = "x"


@dataclass(frozen=True)
class WithUpdates(RandomWalk):
    n_updates: int = 1


class AddedNone(RandomWalk):
    added = None


class Windowed(RandomWalk):
    windows = "x"


class SetsOfNone(RandomWalk):
    chains_per_set = 0


class Populated(RandomWalk):
    populations = True
    chains_per_set = 2


class SetsOfLess(RandomWalk):
    chains_per_set = -1


class SetsOfFloat(RandomWalk):
    chains_per_set = 2.0


@dataclass(frozen=True)
class Shape(Observable):
    kind: ClassVar[str] = "shape"
    name = "shape"

    def __call__(self, x):
        return x[:, 0]

    def quantities(self, lattice_shape):
        return ()


@dataclass(frozen=True)
class WithEvery(Shape):
    every: int = 1


def three():
    return 3


def several():
    return Shape(), 3


@dataclass(frozen=True)
class Plan(FlowPlan):
    shape: tuple[int, ...]
    space = CIRCLE

    def assemble(self):
        raise RuntimeError("oh")


@dataclass(frozen=True)
class NamedPlan(Plan):
    name: str = "x"
"""
THEORY = """
[theory]
name = "wrong:{name}"
shape = [4]
beta = 1.0
"""
U1 = """
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
"""
SAMPLER = (
    U1
    + """
[[ensemble]]
name = "e"
sampler = "wrong:{name}"
width = 0.5
"""
)
OBSERVABLE = U1 + '[[observable]]\nname = "wrong:{name}"\n'
FLOW = U1 + '[flow]\nname = "wrong:{name}"\n'


@pytest.fixture
def wrong(tmp_path, monkeypatch):
    """The module in the current folder; nothing of it is left in the catalogues."""
    (tmp_path / "wrong.py").write_text(MODULE)
    (tmp_path / "quits.py").write_text("raise SystemExit(0)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("wrong", None)
    for catalogue in (THEORIES, SAMPLERS, FLOWS, OBSERVABLES):
        for name in [name for name in catalogue if name.startswith("wrong:")]:
            del catalogue[name]


def told(card, name):
    """The line about a card with this class."""
    with plugins(allowed=True), pytest.raises(InputError) as raised:
        parse_card(card.format(name=name))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_module_that_quits_is_told(wrong):
    assert "'quits:X' cannot be loaded: SystemExit" in told(THEORY.replace("wrong:", "quits:"), "X")


@pytest.mark.parametrize("name", ["function", "instance", "np", "Shape", "RandomWalk"])
def test_what_is_no_theory_is_refused(wrong, name):
    assert f"'wrong:{name}' is no subclass of lattice_flows.theories.Action" in told(THEORY, name)


@pytest.mark.parametrize("name", ["walk", "instance", "np", "Good"])
def test_what_is_no_sampler_is_refused(wrong, name):
    assert f"'wrong:{name}' is no subclass of lattice_flows.samplers.Sampler" in told(SAMPLER, name)


@pytest.mark.parametrize("name", ["function", "np", "Good"])
def test_what_is_no_flow_is_refused(wrong, name):
    assert f"'wrong:{name}' is no subclass of lattice_flows.flows.FlowPlan" in told(FLOW, name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("np", "'wrong:np' is neither a class nor a function"),
        ("three", "wrong:three: must be made of lattice_flows.Observable, got 3"),
        ("several", "wrong:several: must be made of lattice_flows.Observable, got 3"),
        ("WithEvery", "wrong.WithEvery: the argument 'every' must have another name"),
    ],
)
def test_what_is_no_observable_is_refused(wrong, name, text):
    assert text in told(OBSERVABLE, name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Homeless", "Homeless needs an attribute `space`"),
        ("Fieldless", "'wrong:Fieldless' is abstract: it must define __call__, field"),
        ("Untyped", "wrong.Untyped: the argument 'beta' has no type"),
        ("Loose", "wrong.Loose: the arguments are **couplings: float"),
        ("Undefined", "wrong.Undefined: its arguments cannot be read: NameError"),
        ("OfArray", "wrong.OfArray: its arguments cannot be read: PydanticSchemaGenerationError"),
        ("Confused", "wrong.Confused: TypeError: oh"),
        ("Unfielded", "wrong.Unfielded: AttributeError"),
        ("Unstored", "wrong.Unstored: the default of 'other' must be made of numbers and texts, got 0j"),
        ("WithName", "wrong.WithName: the argument 'name' must have another name"),
        ("WithBoundary", "wrong.WithBoundary: the argument 'boundary' must have another name"),
        ("InAClass", "InAClass.space = <class"),
        ("InAText", "InAText.space = 'circle': must be an object such as lattice_flows.lattice.REAL"),
        ("InNothing", "InNothing.space = None"),
        ("OfTwo", "OfTwo.dimensions = 2: must be a range"),
        ("OfNone", "OfNone.dimensions = None: must be a range"),
        ("OfEmpty", "OfEmpty.dimensions = range(2, 2): must be a range that is not empty"),
        ("Added", "Added.added = ('beta',): must be a dictionary"),
        ("NoObservables", "NoObservables.observables: must be a tuple of lattice_flows.Observable, got None"),
    ],
)
def test_a_theory_that_is_wrong_in_itself(wrong, name, text):
    assert text in told(THEORY, name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Abstract", "'wrong:Abstract' is abstract: it must define init, step"),
        ("Unguided", "Unguided: the first argument of a sampler must be `action`"),
        ("WithChains", "wrong.WithChains: the argument 'n_chains' must have another name"),
        ("WithStart", "wrong.WithStart: the argument 'start' must have another name"),
        ("WithSampler", "wrong.WithSampler: the argument 'sampler' must have another name"),
        ("WithUpdates", "wrong.WithUpdates: the argument 'n_updates' must have another name"),
        ("AddedNone", "AddedNone.added = None: must be a dictionary"),
        ("Windowed", "Windowed.windows = 'x': must be Windows(...) or None"),
        ("SetsOfNone", "SetsOfNone.chains_per_set = 0: must be None or a whole number >= 1"),
        ("Populated", "Populated makes populations: it must have weighted = True, and chains_per_set"),
        ("SetsOfLess", "SetsOfLess.chains_per_set = -1: must be None or a whole number >= 1"),
        ("SetsOfFloat", "SetsOfFloat.chains_per_set = 2.0: must be None or a whole number >= 1"),
    ],
)
def test_a_sampler_that_is_wrong_in_itself(wrong, name, text):
    assert text in told(SAMPLER, name)


def test_a_part_of_a_mixture_is_checked_too(wrong):
    card = U1 + '[[ensemble]]\nname = "e"\nsampler = "mixture"\nparts = [{{sampler = "wrong:{name}", width = 0.5}}]\n'
    assert "wrong.WithUpdates: the argument 'n_updates' must have another name" in told(card, "WithUpdates")


def test_a_flow_that_is_wrong_in_itself(wrong):
    assert "wrong.NamedPlan: the argument 'name' must have another name" in told(FLOW, "NamedPlan")


def test_a_default_made_anew_is_read(wrong):
    made = "other: list[float] = field(default_factory=lambda: [1.0, 2.0])"
    Path("wrong.py").write_text(MODULE.replace("other: complex = field(default_factory=complex)", made))
    with plugins(allowed=True):
        assert parse_card(THEORY.format(name="Unstored")).theory.as_dict()["other"] == [1.0, 2.0]


def test_lists_and_texts_are_couplings_of_a_title(wrong):
    made = 'other: list[float] = field(default_factory=lambda: [1.0]); kind: str = "plain"'
    Path("wrong.py").write_text(MODULE.replace("other: complex = field(default_factory=complex)", made))
    with plugins(allowed=True):
        theory = parse_card(THEORY.format(name="Unstored")).theory
    assert title(theory.as_dict()).endswith("beta = 1, other = [1.0], kind = plain")


def test_another_broken_package_is_no_matter_of_a_card(monkeypatch):
    broken = EntryPoint("broken", "nowhere:X", "lattice_flows.theories")
    monkeypatch.setitem(THEORIES._points, "broken", broken)
    with pytest.raises(InputError, match="unknown name 'no_such'"):
        parse_card(U1 + '[[observable]]\nname = "no_such"\n')
    with pytest.raises(PluginError, match="'broken' of nowhere cannot be loaded: ModuleNotFoundError") as raised:
        THEORIES["broken"]
    assert exit_status(raised.value) == (2, str(raised.value))


def test_an_error_of_its_code_is_no_error_of_toml(wrong):
    with plugins(allowed=True), pytest.raises(ValueError, match=r"^oh$"):
        parse_card(THEORY.format(name="ValueOfObservables"))


def test_a_program_adds_only_what_is_of_the_kind():
    with pytest.raises(PluginError, match=r"^'mine' is no subclass of lattice_flows\.samplers\.Sampler$"):
        SAMPLERS["mine"] = THEORIES["u1"]
    assert "mine" not in SAMPLERS
    with pytest.raises(PluginError, match="'three' is neither a class nor a function"):
        Catalogue("observables", {})["three"] = 3


RAISING = """
from lattice_flows.samplers import RandomWalk
from lattice_flows.theories.u1.action import WilsonU1


class Walk(RandomWalk):
    def step(self, state, n_updates=1):
        raise {error}


class Broken(RandomWalk):
    def step(self, state, n_updates=1):
        return super().step(state, "many")
"""
RUN = U1 + '[[ensemble]]\nname = "e"\nsampler = "raising:{name}"\nwidth = 0.5\nn_configs = 2\n'


@pytest.mark.parametrize(
    ("error", "line"),
    [("ZeroDivisionError('two\\nlines')", "two lines"), ("ValueError('v')", "v"), ("SystemExit(0)", "0")],
)
def test_an_error_of_another_packages_code_is_one_line(tmp_path, monkeypatch, lattice_flows, error, line):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "raising.py").write_text(RAISING.format(error=error))
    (tmp_path / "card.toml").write_text(RUN.format(name="Walk"))
    status, _, said = lattice_flows("run", "card.toml", "--allow-plugins", "--out", "run")
    del SAMPLERS["raising:Walk"], sys.modules["raising"]
    assert status == 2
    kind = error.partition("(")[0]
    who = "[[ensemble]] e" if kind == "ValueError" else kind  # which is the way to refuse what a card asks for
    assert said.splitlines()[-1] == f"lattice-flows: {who}: {line} ({tmp_path / 'raising.py'}:8)"
    assert "Traceback" not in said


def test_an_error_below_it_names_its_line(tmp_path, monkeypatch, lattice_flows):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "raising.py").write_text(RAISING.format(error="ValueError"))
    (tmp_path / "card.toml").write_text(RUN.format(name="Broken"))
    status, _, said = lattice_flows("run", "card.toml", "--allow-plugins", "--out", "run")
    del SAMPLERS["raising:Broken"], sys.modules["raising"]
    assert (status, said.splitlines()[-1].endswith("raising.py:13)")) == (2, True), said


def test_an_error_of_the_package_itself_is_still_raised(tmp_path, monkeypatch, lattice_flows):
    def broken(*_):
        raise RuntimeError("own")

    monkeypatch.setattr("lattice_flows.samplers.random_walk.RandomWalk.step", broken)
    (tmp_path / "card.toml").write_text(RUN.format(name="Walk").replace("raising:Walk", "random_walk"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="own"):
        lattice_flows("run", "card.toml", "--out", "run")
