"""Measuring on stored fields: the bits of the running chain, interruptions, and what is refused."""

import errno
import io
import json
import os
import random
import shlex
from unittest.mock import Mock

import h5py
import numpy as np
import pytest
from cards import SCALAR, assert_same_ensemble
from rich.console import Console

from lattice_flows.card.card import parse_card
from lattice_flows.ensembles import Block, Ensemble, EnsembleError, FieldSpec
from lattice_flows.ensembles.lock import WriterLock
from lattice_flows.errors import InputError
from lattice_flows.production.measure import measure, parse_observable, requested
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import sample_stage
from lattice_flows.terminal.interrupt import Stopped, StopRequest
from lattice_flows.theories import Flowed, Magnetisation, Plaquette, PolyakovLoop, TopologicalCharge, WilsonLoop
from lattice_flows.theories.measurement import Measurement, measured

PLAIN = """
seed = 5
[theory]
name = "u1"
shape = [4, 6]
beta = 1.5

[[ensemble]]
name = "hmc"
sampler = "hmc"
n_chains = 3
n_configs = 200
n_thermalisation = 20
n_md_steps = 5
"""

ASKED = (
    "creutz_ratio r=2 t=2",
    "creutz_ratio r=2 t=2 flow_time=0.25 every=3",
    "polyakov_loop mu=1 flow_time=0.25 every=7",
    "topological_charge flow_time=0.51",
    "polyakov_modulus mu=0",
)

WITH_OBSERVABLES = (
    PLAIN
    + """
[[observable]]
name = "creutz_ratio"
r = 2
t = 2
[[observable]]
name = "creutz_ratio"
r = 2
t = 2
flow_time = 0.25
every = 3
[[observable]]
name = "polyakov_loop"
mu = 1
flow_time = 0.25
every = 7
[[observable]]
name = "topological_charge"
flow_time = 0.51
[[observable]]
name = "polyakov_modulus"
mu = 0
"""
)

ADDED = {
    "wilson_loop_1x1",
    "wilson_loop_1x1_t0.25",
    "wilson_loop_1x2_t0.25",
    "wilson_loop_2x2_t0.25",
    "polyakov_loop_1_t0.25",
    "topological_charge_t0.51",
    "polyakov_modulus_0",
}


class AfterLooks(StopRequest):
    """A signal comes at the n-th look."""

    def __init__(self, n_looks):
        super().__init__()
        self._left = n_looks

    def __call__(self):
        self._left -= 1
        if self._left <= 0:
            self.signal = "TEST"
        return self._left <= 0


def quiet():
    return Console(file=io.StringIO(), width=200)


def add(path, *texts, stop=None, console=None):
    pace = 0.2 if stop is None else 0.0  # then it looks after each configuration
    measure(path, requested(path, texts), stop or StopRequest(), console or quiet(), pace)


@pytest.fixture
def ensemble(card, tmp_path):
    """Generate a card's ensemble; its file."""

    def make(text, name="run", ensemble="hmc"):
        sample_stage(card(text, f"{name}.toml"), tmp_path / name, [], [], quiet())
        return RunFolder(tmp_path / name).ensemble(ensemble)

    return make


def partial_of(path):
    return path.with_suffix(".measuring.npz")


@pytest.fixture
def links(rng):
    return rng.uniform(-np.pi, np.pi, (23, 2, 2, 4, 5))


def test_stored_fields_give_the_bits_of_the_running_chain(ensemble):
    while_running, later = ensemble(WITH_OBSERVABLES, "with"), ensemble(PLAIN, "without")
    with Ensemble.open(later) as file:
        assert not ADDED & set(file.series_names)
    add(later, *ASKED)
    assert_same_ensemble(while_running, later)
    with Ensemble.open(while_running) as one, Ensemble.open(later) as other:
        assert set(one.series_names) >= ADDED
        np.testing.assert_array_equal(other.series_configs("polyakov_loop_1_t0.25"), range(0, 200, 7))
        tables = [{json.dumps(t) for t in json.loads(file.attributes["observables"])} for file in (one, other)]
        assert tables[0] == tables[1]
        assert other.verify()
    assert not partial_of(later).exists()


def test_interruptions_change_no_bit(ensemble, seed):
    reference, path = ensemble(WITH_OBSERVABLES, "with"), ensemble(PLAIN, "without")
    rng, stops = random.Random(seed), 0
    while True:
        try:
            add(path, *ASKED, stop=AfterLooks(rng.randint(1, 60)))
            break
        except Stopped:
            stops += 1
            with np.load(partial_of(path), allow_pickle=False) as held:
                assert 0 < held["n_done"] <= 200
    assert stops >= 3
    assert_same_ensemble(reference, path)
    assert not partial_of(path).exists()


@pytest.mark.parametrize("damage", ["cut", "no archive", "other file", "other observables", "shape", "pickle"])
def test_what_does_not_fit_an_interrupted_call_is_thrown_away(ensemble, damage):
    path = ensemble(PLAIN)
    with pytest.raises(Stopped):
        add(path, "polyakov_loop mu=0", stop=AfterLooks(9))
    partial = partial_of(path)
    with np.load(partial, allow_pickle=False) as file:
        held = {name: file[name] for name in file.files}
    assert held["series/polyakov_loop_0"].shape == (9, 3)
    held["series/polyakov_loop_0"] += 1.0  # so that it would be seen if it were used
    if damage == "cut":
        partial.write_bytes(partial.read_bytes()[:-50])
    elif damage == "no archive":
        with partial.open("wb") as file:
            np.save(file, held["series/polyakov_loop_0"])
    else:
        other = {
            "other file": {"sha256": np.array("0" * 64)},
            "other observables": {"observables": np.array("[]")},
            "shape": {"n_done": np.int64(10)},
            "pickle": {"series/polyakov_loop_0": np.array([print], dtype=object)},
        }
        np.savez(partial, allow_pickle=True, **(held | other[damage]))
    console = quiet()
    add(path, "polyakov_loop mu=0", console=console)
    (line,) = [line for line in console.file.getvalue().splitlines() if "deleted" in line]
    assert line.split("deleted ")[1].startswith("hmc.measuring.npz: ")
    assert ("hmc.h5 has changed since" if damage == "other file" else "it is damaged") in line
    with Ensemble.open(path) as file:
        x = file.configs(0, 200)
        expected = PolyakovLoop(0)(x.reshape(-1, *x.shape[2:])).reshape(200, 3)
        np.testing.assert_array_equal(file.series("polyakov_loop_0"), expected)
    assert not partial.exists()


def test_an_interrupted_call_comes_before_another_one(ensemble):
    path = ensemble(PLAIN)
    pending = ("polyakov_loop mu=0 every=3", "wilson_loop r=1 t=2 flow_time=0.51")
    with pytest.raises(Stopped):
        add(path, *pending, stop=AfterLooks(9))
    kept = partial_of(path).read_bytes()
    for other in (["polyakov_modulus mu=0"], ["polyakov_loop mu=0 every=3"], ["polyakov_loop mu=0", pending[1]]):
        with pytest.raises(InputError, match=r"polyakov_loop_0, wilson_loop_1x2_t0\.51 was interrupted") as refused:
            add(path, *other)
        assert "or delete hmc.measuring.npz" in str(refused.value)
        assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="already holds all of this"):
        add(path, "plaquette")
    assert partial_of(path).read_bytes() == kept
    program, command, file, *texts = shlex.split(str(refused.value).split("`")[1])
    assert (program, command, file) == ("lattice-flows", "measure", str(path))
    resumed, stop = requested(path, texts), AfterLooks(192)  # one look for each of the 191 that are left
    assert resumed == requested(path, pending)
    measure(path, resumed[::-1], stop, quiet(), block_seconds=0.0)
    with Ensemble.open(path) as held:
        assert {"polyakov_loop_0", "wilson_loop_1x2_t0.51"} <= set(held.series_names)
        assert held.every("polyakov_loop_0") == 3
    assert not partial_of(path).exists()


def test_a_kill_after_the_series_were_added_leaves_nothing(ensemble):
    path, console = ensemble(PLAIN), quiet()
    with pytest.raises(Stopped):
        add(path, "polyakov_loop mu=0", stop=AfterLooks(9))
    left = partial_of(path).read_bytes()
    add(path, "polyakov_loop mu=0")
    partial_of(path).write_bytes(left)
    with pytest.raises(InputError, match="already holds all of this"):
        add(path, "polyakov_loop mu=0", console=console)
    assert "hmc.h5 has changed since" in console.file.getvalue()
    assert not partial_of(path).exists()


def test_a_link_stays_and_the_file_behind_it_gets_the_series(ensemble, tmp_path):
    path, link = ensemble(PLAIN), tmp_path / "link.h5"
    link.symlink_to(path)
    with pytest.raises(Stopped):
        add(link, "polyakov_loop mu=0", stop=AfterLooks(1))
    assert partial_of(path).exists()
    add(link, "polyakov_loop mu=0")
    assert link.is_symlink()
    with Ensemble.open(path) as file:
        assert "polyakov_loop_0" in file.series_names
    assert {one.name for one in tmp_path.glob("link*")} == {"link.h5"}


@pytest.mark.parametrize("cause", ["another writer", "no lock", "lock not removed", "damage"])
def test_what_cannot_be_written_is_refused_before_the_work(ensemble, cause, monkeypatch):
    path = ensemble(PLAIN)
    asked, lock, content = requested(path, ["polyakov_loop mu=0"]), None, path.read_bytes()
    if cause == "another writer":
        lock, expected = WriterLock(path), "is writing this ensemble"
    elif cause == "no lock":  # permissions alone do not stop a superuser
        path.with_suffix(".lock").mkdir()
        expected = "its lock hmc.lock cannot be created"
    elif cause == "lock not removed":
        refusal = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        monkeypatch.setattr(WriterLock, "release", Mock(side_effect=refusal))
        expected = "cannot be written: Permission denied"
    else:
        with h5py.File(path, "r+") as file:
            file["series/action"][3, 1] += 1.0
        content, expected = path.read_bytes(), "hmc.h5"
    work = Mock(side_effect=AssertionError("measured in vain"))
    monkeypatch.setattr("lattice_flows.production.measure.measured", work)
    with pytest.raises((InputError, EnsembleError), match=expected) as refused:
        measure(path, asked, StopRequest(), quiet())
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == content
    if lock is not None:
        lock.release()


def test_a_series_of_too_few_rows_is_refused(ensemble):
    path = ensemble(PLAIN.replace("n_configs = 200", "n_configs = 20"))
    with pytest.raises(
        InputError, match=r"polyakov_loop_0: every = 7 leaves 3 of 20 .* here `every` must be at most 6"
    ):
        add(path, "polyakov_loop mu=0 every=7")
    add(path, "polyakov_loop mu=0 every=6")
    with Ensemble.open(path) as file:
        assert len(file.series("polyakov_loop_0")) == 4


def test_loops_that_wind_around_the_lattice_are_measured_with_a_warning(ensemble):
    path, console = ensemble(PLAIN), quiet()
    add(path, "wilson_loop r=3 t=3", console=console)
    assert "warning" not in console.file.getvalue()
    add(path, "wilson_loop r=4 t=1 every=2", "wilson_loop r=2 t=7", "polyakov_loop mu=0", console=console)
    (line,) = [line for line in console.file.getvalue().splitlines() if "warning" in line]
    assert "warning: wilson_loop_1x4, wilson_loop_2x7: winds around the lattice of 4 x 6 sites" in line
    with Ensemble.open(path) as file:
        assert {"wilson_loop_1x4", "wilson_loop_2x7"} <= set(file.series_names)
    assert "float32" not in console.file.getvalue()


def test_what_is_there_already(ensemble):
    path, console = ensemble(PLAIN), quiet()
    add(path, "creutz_ratio r=2 t=2", console=console)
    assert "already holds wilson_loop_2x2, wilson_loop_1x2" in console.file.getvalue()
    assert "added wilson_loop_1x1" in console.file.getvalue()
    with pytest.raises(InputError, match="already holds all of this: wilson_loop_2x2, wilson_loop_1x1"):
        add(path, "creutz_ratio r=2 t=2")
    with pytest.raises(InputError, match="already holds wilson_loop_1x1, with another `every` than 5"):
        add(path, "wilson_loop r=1 t=1 every=5")
    with pytest.raises(InputError, match="nothing to measure"):
        add(path)


def test_files_that_cannot_be_measured(ensemble, tmp_path):
    alone = ensemble(PLAIN.replace("n_md_steps", "store_fields = false\nn_md_steps"), "alone")
    with pytest.raises(InputError, match="stores only series"):
        add(alone, "polyakov_loop mu=0")
    with pytest.raises(InputError, match="magnetisation is not an observable of u1"):
        measure(alone, [Measurement(Magnetisation(), 1)], StopRequest(), quiet())
    header = {"theory": json.dumps({"name": "u1", "beta": 1.0}), "observables": "[]"}
    spec = FieldSpec("theta", ("mu", "x0", "x1"), (2, 3, 3))
    path = tmp_path / "growing.h5"
    with Ensemble.create(path, header=header, chains=range(1), field=spec, store_fields=True) as writer:
        writer.append(Block(series={"action": np.zeros((2, 1))}, fields=np.zeros((2, 1, 2, 3, 3))))
        writer.commit({"a": 1.0}, seconds=1.0)
        with pytest.raises(InputError, match=r"growing.h5: is unfinished; finish it first with `lattice-flows run`"):
            add(path, "polyakov_loop mu=0")


def test_a_file_that_changes_meanwhile_is_left_alone(ensemble):
    path = ensemble(PLAIN)
    asked = requested(path, ["polyakov_loop mu=0"])

    class Meanwhile(StopRequest):
        def raise_if_set(self):
            with Ensemble.open(path) as file:
                held = "polyakov_modulus_0" in file.series_names
            if not held:
                add(path, "polyakov_modulus mu=0")

    with pytest.raises(InputError, match="was changed by another process in the meantime"):
        measure(path, asked, Meanwhile(), quiet())
    with Ensemble.open(path) as file:
        assert "polyakov_modulus_0" in file.series_names
        assert "polyakov_loop_0" not in file.series_names


def test_single_precision_fields_are_measured_in_double(tmp_path, rng):
    x = rng.uniform(-np.pi, np.pi, (4, 2, 2, 3, 3)).astype(np.float32)
    header = {"theory": json.dumps({"name": "u1", "beta": 1.0}), "observables": "[]"}
    spec = FieldSpec("theta", ("mu", "x0", "x1"), (2, 3, 3), "float32")
    path = tmp_path / "single.h5"
    with Ensemble.create(path, header=header, chains=range(2), field=spec, store_fields=True) as writer:
        writer.append(Block(series={"action": np.zeros((4, 2))}, fields=x))
        writer.commit({"a": 1.0}, seconds=1.0)
        writer.finish()
    console = quiet()
    add(path, "plaquette flow_time=0.1", console=console)
    assert "rounded fields and equal those of the running chain only to single precision" in console.file.getvalue()
    with Ensemble.open(path) as file:
        expected = Flowed(Plaquette(), 0.1)(x.astype(float).reshape(-1, 2, 3, 3)).reshape(4, 2)
        np.testing.assert_array_equal(file.series("plaquette_t0.1"), expected)


def test_scalar_fields(ensemble):
    path = ensemble(SCALAR + '\n[[ensemble]]\nname = "hmc"\nsampler = "hmc"\nn_configs = 20\nn_thermalisation = 5\n')
    add(path, "two_point distance=7")
    with Ensemble.open(path) as file:
        assert file.series("two_point_7").shape == (20, 4)
    with pytest.raises(InputError, match="plaquette: is not an observable of phi4"):
        add(path, "plaquette")
    with pytest.raises(InputError, match="flow_time: the gradient flow is for gauge fields, but the theory is phi4"):
        add(path, "magnetisation flow_time=0.1")


def test_series_depend_on_nothing_else(links):
    """Neither on where blocks are cut nor on what else is measured; a flow time need be no multiple of the step."""
    all_of_them = [
        Measurement(Plaquette(), 1),
        Measurement(Flowed(WilsonLoop(1, 2), 0.51), 4),
        Measurement(Flowed(TopologicalCharge(), 0.05), 3),
        Measurement(Flowed(Plaquette(), 0.5), 2),
        Measurement(PolyakovLoop(0), 5),
    ]
    series, every = measured(all_of_them, links, 11)
    assert list(series) == list(every) == [one.observable.name for one in all_of_them]
    for one in all_of_them:
        name, rows = one.observable.name, np.arange(11, 34) % one.every == 0
        assert every[name] == one.every
        flat = links[rows].reshape(-1, 2, 4, 5)
        np.testing.assert_array_equal(series[name], one.observable(flat).reshape(-1, 2))
        np.testing.assert_array_equal(series[name], measured([one], links, 11)[0][name])
        cut = [measured(all_of_them, links[a:b], 11 + a)[0][name] for a, b in ((0, 1), (1, 2), (2, 9), (9, 23))]
        np.testing.assert_array_equal(series[name], np.concatenate(cut))


def test_tables_of_measurements_go_there_and_back():
    card = parse_card(WITH_OBSERVABLES)
    for one in card.measurements:
        assert Measurement.from_dict(json.loads(json.dumps(one.as_dict())), card.theory.action) == one
    # What an older file says, and what it says still where nothing flows.
    assert Measurement.from_dict({"name": "plaquette", "every": 2}, card.theory.action) == Measurement(Plaquette(), 2)
    assert "flow_time" not in Measurement(Plaquette(), 2).as_dict()
    assert Measurement(Flowed(WilsonLoop(1, 2), 0.5), 2).as_dict() == {
        "name": "wilson_loop",
        "every": 2,
        "r": 1,
        "t": 2,
        "flow_time": 0.5,
        "series": "wilson_loop_1x2_t0.5",
    }


def test_a_cards_observables():
    measurements = {one.observable.name: one for one in parse_card(WITH_OBSERVABLES).measurements}
    assert set(measurements) >= ADDED
    assert measurements["wilson_loop_2x2"].every == 1
    assert measurements["topological_charge_t0.51"].observable == Flowed(TopologicalCharge(), 0.51)
    both = PLAIN + '[[observable]]\nname="creutz_ratio"\nr=2\nt=2\n[[observable]]\nname="creutz_ratio"\nr=2\nt=3\n'
    names = [one.observable.name for one in parse_card(both).measurements]
    assert names.count("wilson_loop_2x2") == 1  # which both ratios take
    assert "wilson_loop_2x3" in names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 'plaquette'\nflow_time = -0.5", "flow_time = -0.5: input should be greater than or equal to 0"),
        ("name = 'plaquette'\nflow_time = nan", "flow_time = nan"),
        ("name = 'plaquette'\nflow_time = 'long'", "flow_time = 'long': input should be a valid number"),
        ("name = 'plaquette'\nflowtime = 1", "unknown key 'flowtime'; did you mean 'flow_time'?"),
        ("name = 'creutz_ratio'\nr = 1\nt = 4", "a Creutz ratio needs r, t >= 2, got r = 1, t = 4"),
        ("name = 'creutz_ratio'\nr = 2", "creutz_ratio: the key 't' is missing"),
        ("name = 'polyakov_loop'\nmu = 2", "mu must be 0 or 1, got mu = 2"),
        ("name = 'creutz'\nr = 2", "unknown name 'creutz'; did you mean 'creutz_ratio'?"),
        (
            "name = 'creutz_ratio'\nr = 2\nt = 2\n[[observable]]\nname = 'wilson_loop'\nr = 1\nt = 1\nevery = 5",
            "wilson_loop: wilson_loop_1x1 is given twice, with every = 1 and 5",
        ),
        ("name = 'plaquette'\n[[observable]]\nname = 'plaquette'", "plaquette is given twice"),
    ],
)
def test_tables_that_are_wrong(text, message):
    with pytest.raises(InputError) as refused:
        parse_card(PLAIN + "[[observable]]\n" + text)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_observables_in_one_line():
    assert parse_observable(" wilson_loop r=2 t=3  flow_time=0.5 every=10 ") == {
        "name": "wilson_loop",
        "r": 2,
        "t": 3,
        "flow_time": 0.5,
        "every": 10,
    }
    assert parse_observable("plaquette") == {"name": "plaquette"}
    assert parse_observable("x y=__import__('os')")["y"] == "__import__('os')"
    for wrong in ("plaquette every", "plaquette =3", "plaquette every=", "wilson_loop r=2 r=3", "plaquette name=x"):
        with pytest.raises(InputError, match="must be written NAME KEY=VALUE"):
            parse_observable(wrong)


@pytest.mark.parametrize("texts", [[""], ["nonsense"], ["plaquette every=0"], ["plaquette", "plaquette"], ["x r=[[["]])
def test_requests_that_are_wrong(ensemble, texts):
    path = ensemble(PLAIN.replace("n_configs = 200", "n_configs = 2"))
    with pytest.raises(InputError):
        requested(path, texts)
