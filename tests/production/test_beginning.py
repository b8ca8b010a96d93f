"""Code of somebody else that is not what a run takes it for is refused, in one line, before an ensemble is begun."""

import json
import logging
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from rich.console import Console

from lattice_flows.card.card import parse_card
from lattice_flows.ensembles import Ensemble, FieldSpec
from lattice_flows.errors import InputError
from lattice_flows.kernels.random import uniforms
from lattice_flows.lattice import CIRCLE, REAL, Circle, Product
from lattice_flows.production import beginning
from lattice_flows.production.generate import check, generate
from lattice_flows.production.job_array import Task
from lattice_flows.production.measure import measure
from lattice_flows.production.produce import Pace
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.samplers import SAMPLERS, Sampler
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.theories import OBSERVABLES, THEORIES, XY, Action, Observable
from lattice_flows.theories.measurement import Measurement

QUIET = Console(quiet=True)
CARD = """
[theory]
name = "{theory}"
shape = [4, 4]
beta = 0.5
{observable}
[[ensemble]]
name = "e"
sampler = "{sampler}"
n_configs = 6
n_thermalisation = 2
n_chains = 2
{keys}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Make an ensemble with these classes of somebody else; returns its folder and card."""

    def call(theory="u1", sampler="random_walk", observable=None, keys="width = 0.3", pace=None):
        named = {"theory": theory, "sampler": sampler, "observable": observable}
        for kind, catalogue in (("theory", THEORIES), ("sampler", SAMPLERS), ("observable", OBSERVABLES)):
            if isinstance(named[kind], type):
                monkeypatch.setitem(catalogue, f"my_{kind}", named[kind])
                named[kind] = f"my_{kind}"
        if named["observable"]:
            named["observable"] = f'[[observable]]\nname = "{named["observable"]}"'
        card = parse_card(CARD.format(**{**named, "observable": named["observable"] or ""}, keys=keys))
        folder = RunFolder(tmp_path / "run")
        check(folder, card, "e")
        generate(folder, card, "e", StopRequest(), QUIET, **({} if pace is None else {"pace": pace}))
        return folder, card

    return call


def refused(run, match, **what):
    with pytest.raises(InputError, match=match) as told:
        run(**what)
    assert "\n" not in str(told.value)


@dataclass(frozen=True)
class Good(Action):
    """The XY model in torch."""

    beta: float
    space = CIRCLE
    dimensions: ClassVar[range] = range(2, 3)

    def field(self, shape):
        return FieldSpec("theta", ("x0", "x1"), shape)

    def __call__(self, x):
        return -self.beta * sum(torch.cos(torch.roll(x, -1, m) - x) for m in (1, 2)).sum((1, 2))


class InPlace(Good):
    def __call__(self, x):
        s = super().__call__(x)
        with torch.no_grad():
            x.add_(0.1)
        return s


class Mixes(Good):
    def __call__(self, x):
        return super().__call__(x) + super().__call__(x).mean()


class NotANumber(Good):
    def __call__(self, x):
        return super().__call__(x) * float("nan")


class Single(Good):
    def __call__(self, x):
        return super().__call__(x).float()


class ForceInPlace(Good):
    def force(self, x):
        force = super().force(x)
        x.mul_(2.0)
        return force


class HotShape(Good):
    def hot(self, streams, event):
        return np.zeros((1, 2)), streams


class HotInfinite(Good):
    def hot(self, streams, event):
        return np.full((len(streams), *event), np.inf), streams


class Narrow(Good):
    space = Product((REAL, CIRCLE))


class OwnCircle(Circle):
    """A circle that the classes below get wrong."""


class WrapShape(OwnCircle):
    def hot(self, streams, event):
        return CIRCLE.hot(streams, event)

    def wrap(self, x):
        return x[:1]


class HotSingle(OwnCircle):
    def hot(self, streams, event):
        x, streams = super().hot(streams, event)
        return x.astype("float32"), streams


class ColdShape(OwnCircle):
    def cold(self, event):
        return np.zeros(3)


class Faulty(OwnCircle):
    def fault(self, x):
        return "it is always wrong"


@dataclass(frozen=True)
class WrongKernels(Good):
    def kernel_couplings(self, event):
        return XY(2.0 * self.beta).kernel_couplings(event)


@pytest.mark.parametrize(
    ("theory", "match"),
    [
        (InPlace, "InPlace: S changes the configurations"),
        (Mixes, "must not depend on those beside it"),
        (NotANumber, "S of the hot start is nan"),
        (Single, r"must be a tensor \[2\], torch.float64"),
        (ForceInPlace, r"force\(\) changes the configurations"),
        (HotShape, r"hot\(\) must return an array \[2, 4, 4\], float64, got an array \[1, 2\]"),
        (HotInfinite, r"hot\(\) returns numbers that are not finite"),
        (Narrow, r"must end in the axes \[2\], got the shape \[4, 4\]"),
        (WrongKernels, "compute another S than torch"),
    ],
)
def test_a_theory_that_is_wrong_is_refused(theory, match, run):
    refused(run, match, theory=theory)


@pytest.mark.parametrize(
    ("space", "match"),
    [
        (WrapShape, r"wrap\(\) of its space must return a tensor \[2, 4, 4\]"),
        (HotSingle, r"hot\(\) must return an array \[2, 4, 4\], float64, got an array \[2, 4, 4\], float32"),
        (ColdShape, r"cold\(\) must return an array \[4, 4\], float64, got an array \[3\]"),
        (Faulty, r"fault\(\) of its space refuses what hot\(\) returns: it is always wrong"),
    ],
)
def test_a_space_that_is_wrong_is_refused(space, match, run):
    refused(run, match, theory=type("OnIt", (Good,), {"space": space()}))


@pytest.fixture
def told(caplog):
    """The warnings, each of which a process gives once."""
    beginning._say_once.cache_clear()
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if "differs from -dS/dx" in record.getMessage()]


def test_a_force_that_is_off_is_told_and_kept(run, told):
    class Stronger(Good):
        def force(self, x):
            return 1.01 * super().force(x)

    folder, _ = run(theory=Stronger, sampler="hmc", keys="n_md_steps = 4")
    assert len(told()) == 1
    assert told()[0].startswith("the force of Stronger differs from -dS/dx by 0.01: exact, but")
    with Ensemble.open(folder.ensemble("e")) as made:
        assert made.finished


def test_a_compiled_force_that_is_off_is_told(told, monkeypatch):
    class Compiled(XY):
        """The package's own kernels."""

    streams = np.array([[1, 0], [2, 0]], dtype=np.uint64)
    beginning.check_theory(Compiled(0.5), (4, 4), "hot", streams)
    assert told() == []
    right = beginning.hmc.force
    monkeypatch.setattr(beginning.hmc, "force", lambda couplings, x: 1.1 * right(couplings, x))
    beginning.check_theory(Compiled(0.5), (4, 4), "hot", streams)
    assert [text.partition(" differs")[0] for text in told()] == ["the force of Compiled by its kernels"]


def test_a_theory_without_a_derivative_is_left_to_other_samplers(run, told):
    class Rough(Good):
        def __call__(self, x):
            return super().__call__(x.detach())

    run(theory=Rough)
    assert told() == []


def test_the_theories_of_the_package_have_nothing_to_be_told(told):
    """So that the checks themselves are right: of angles, of real numbers with a double well, and of integers."""
    streams = np.array([[1, 0], [2, 0]], dtype=np.uint64)
    couplings = {"xy": {"beta": 1.0}, "phi4": {"m2": -1.0, "lam": 0.5}, "ising": {"beta": 0.4}}
    for name, values in couplings.items():
        action = THEORIES[name](**values)
        beginning.check_theory(action, action.event_shape((4, 4)), "hot", streams)
    assert told() == []


@dataclass(frozen=True)
class Mean(Observable):
    """<cos x>, with the name of a series that a subclass chooses."""

    kind: ClassVar[str] = "mean"

    def __call__(self, x):
        return np.cos(x).reshape(len(x), -1).mean(1)


class Shaped(Mean):
    def __call__(self, x):
        return x


class Listed(Mean):
    def __call__(self, x):
        return list(super().__call__(x))


class OneNumber(Mean):
    def __call__(self, x):
        return 1.0


class Complex(Mean):
    def __call__(self, x):
        return 1j * super().__call__(x)


class Changes(Mean):
    def __call__(self, x):
        x += 1
        return super().__call__(x)


class AsAction(Mean):
    name = "action"


class AsStandard(Mean):
    name = "plaquette"


class AsAccepted(Mean):
    name = "accepted"


@pytest.mark.parametrize(
    ("observable", "match"),
    [
        (Shaped, r"the observable 'mean' must return a numpy array .* got \[2, 2, 4, 4\], float64"),
        (Listed, "the observable 'mean' must return a numpy array .* got a list"),
        (OneNumber, "the observable 'mean' must return a numpy array .* got a float"),
        (Complex, "the observable 'mean' must return a numpy array .* complex128"),
        (Changes, "the observable 'mean' changes the configurations"),
        (AsAction, "its series 'action' has the name of that of S"),
        (AsStandard, "its series 'plaquette' has the name of a standard one of u1"),
        (
            AsAccepted,
            "'accepted' is given twice, by the observable 'mean' and by the info of the sampler 'random_walk'",
        ),
    ],
)
def test_an_observable_that_is_wrong_is_refused(observable, match, run):
    refused(run, match, observable=observable)


@pytest.mark.parametrize("observable", [Changes, Shaped])
def test_an_observable_that_is_wrong_measures_no_stored_fields(observable, run, monkeypatch):
    folder, _ = run()
    path = folder.ensemble("e")
    before = path.read_bytes()
    monkeypatch.setitem(OBSERVABLES, "mean", observable)
    with pytest.raises(InputError, match="the observable 'mean'"):
        measure(path, [Measurement(observable(), 1)], StopRequest(), QUIET)
    assert path.read_bytes() == before


class State(NamedTuple):
    x: np.ndarray
    streams: np.ndarray


class Info(NamedTuple):
    moved: np.ndarray


class Weights(NamedTuple):
    log_w: np.ndarray


class More(NamedTuple):
    moved: np.ndarray
    more: np.ndarray


class Plaquette(NamedTuple):
    plaquette: np.ndarray


class OfAction(NamedTuple):
    action: np.ndarray


@dataclass(frozen=True)
class Draws(Sampler):
    """Angles without an action, and what the subclasses below get wrong."""

    action: Action

    def init(self, x, streams):
        return State(x.copy(), streams.copy())

    def step(self, state, n_updates=1):
        u, streams = uniforms(state.streams, state.x[0].size)
        return State((u - 0.5).reshape(state.x.shape), streams), self.info(u[:, 0])

    def info(self, u):
        return Info(u)


def with_info(make, weighted=False):
    return type("Other", (Draws,), {"info": lambda self, u: make(u), "weighted": weighted})


class Moves(Draws):
    def step(self, state, n_updates=1):
        new, info = super().step(state)
        state.x[:] = new.x
        return new, info


class NoState(Draws):
    def init(self, x, streams):
        return (x, streams)


class Grows(Draws):
    def step(self, state, n_updates=1):
        new, info = super().step(state)
        return new._replace(x=np.concatenate([new.x, new.x])), info


class NamesNothing(Draws):
    tunable = ("nothing",)


@dataclass(frozen=True)
class TunesToNothing(Draws):
    width: float | None = None
    tunable: ClassVar[tuple[str, ...]] = ("width",)

    def tune(self, state, n_updates, report=None):
        return None


class Raises(Draws):
    def step(self, state, n_updates=1):
        raise ValueError("of two\nlines")


class NoSets(Draws):
    chains_per_set = -1


@pytest.mark.parametrize(
    ("sampler", "match"),
    [
        (Moves, r"step\(\) changes x of the state"),
        (NoState, r"init\(\) must return a NamedTuple with a field x, got a tuple"),
        (Grows, r"step\(\) must return x as an array \[2, 2, 4, 4\]"),
        (NamesNothing, "tunable names 'nothing', which is no argument"),
        (TunesToNothing, r"tune\(\) of 'my_sampler' must return a sampler, got a NoneType"),
        (Raises, "e: of two lines"),
        (NoSets, "NoSets.chains_per_set = -1: must be None or a whole number >= 1"),
        (with_info(lambda u: None), "the info of a step must be a NamedTuple, got None"),
        (with_info(lambda u: {"moved": u}), "the info of a step must be a NamedTuple, got a dict"),
        (with_info(lambda u: Info(0.5)), "moved of the info must be an array of one number for each of 2 chains"),
        (with_info(Plaquette), "'plaquette' is given twice, by the observable 'plaquette' and by the info"),
        (with_info(OfAction), "'action' is given twice, by S of the theory and by the info"),
        (with_info(Info, weighted=True), "is weighted, but the info of its steps has no log_w, only moved"),
        (with_info(lambda u: Weights(u * np.nan), weighted=True), "log_w of the first step must be .* got nan"),
        (with_info(lambda u: Weights(u + np.inf), weighted=True), "log_w of the first step must be .* got inf"),
    ],
)
def test_a_sampler_that_is_wrong_is_refused(sampler, match, run):
    refused(run, match, sampler=sampler, keys="")


@pytest.mark.parametrize("block_seconds", [0.0, 10.0])
def test_series_that_come_and_go_are_refused(block_seconds, run):
    """In one block of steps, and from one block to the next."""
    varies = with_info(lambda u: Info(u) if u[0] < 0.5 else More(u, u))
    refused(run, "had the fields .* they must be the same in all", sampler=varies, keys="", pace=Pace(block_seconds))


def test_what_is_right_is_begun(run):
    folder, _ = run(
        theory=Good, sampler=with_info(lambda u: Weights(np.log(u)), weighted=True), observable=Mean, keys=""
    )
    with Ensemble.open(folder.ensemble("e")) as made:
        assert {"action", "mean", "log_w"} <= set(made.series_names)


def test_a_plug_in_that_has_changed_is_told_when_its_chains_go_on(run, capsys):
    folder, card = run(sampler=Draws, keys="")
    was = card.plugins["my_sampler"]
    longer = replace(card, ensembles=(replace(card.ensembles[0], n_configs=9),))
    generate(folder, longer, "e", StopRequest(), Console(width=400))
    assert "plug-in" not in capsys.readouterr().out
    changed = replace(
        longer, plugins={"my_sampler": "other sha256 1"}, ensembles=(replace(card.ensembles[0], n_configs=12),)
    )
    generate(folder, changed, "e", StopRequest(), Console(width=400))
    line = f"its plug-in my_sampler was {was}, now it is other sha256 1: the chains are of two programs"
    assert line in capsys.readouterr().out
    with Ensemble.open(folder.ensemble("e")) as made:
        assert json.loads(made.attributes["plugins"]) == {"my_sampler": was}


def test_a_task_is_not_begun_beside_files_that_cannot_be_read(tmp_path):
    """What version has begun the others, and so what the card means, is unknown; one that can be read is enough."""
    card = parse_card(
        CARD.format(theory="u1", sampler="random_walk", observable="", keys="width = 0.3\nn_chains = 3").replace(
            "n_chains = 2\n", ""
        )
    )
    folder = RunFolder(tmp_path / "run")
    generate(folder, card, "e", StopRequest(), QUIET, Task(0, 3))
    sound = folder.task("e", 0).read_bytes()
    folder.task("e", 0).write_bytes(sound[:200])
    with pytest.raises(InputError, match=r"e\.0\.h5: broken"):
        generate(folder, card, "e", StopRequest(), QUIET, Task(1, 3))
    assert not folder.task("e", 1).exists()
    folder.task("e", 2).write_bytes(sound[:200])
    folder.task("e", 0).write_bytes(sound)
    generate(folder, card, "e", StopRequest(), QUIET, Task(1, 3))
    assert folder.task("e", 1).exists()
