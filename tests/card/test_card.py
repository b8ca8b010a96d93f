"""Run cards: what is right is read with its defaults, what is wrong is told in one line."""

import pytest
from cards import CLASSICAL, WITH_FLOW

from lattice_flows.card.card import Measurement, parse_card, read_card
from lattice_flows.errors import InputError
from lattice_flows.theories import WilsonLoop, WilsonU1

pytestmark = pytest.mark.quick

MINIMAL = '[theory]\nname = "u1"\nshape = [8, 8]\nbeta = 2\n'


def test_a_short_card_is_a_good_card():
    card = parse_card(MINIMAL)
    assert card.theory.action == WilsonU1(2.0)
    assert card.theory.as_dict() == {"name": "u1", "shape": [8, 8], "boundary": "periodic", "beta": 2.0}
    assert (card.seed, card.device, card.flow, card.ensembles) == (1, "auto", None, ())


def test_tables_become_arguments():
    card = parse_card(WITH_FLOW)
    assert card.flow.options["hidden"] == (8,)
    assert card.flow.as_dict()["hidden"] == [8]
    assert card.training.max_steps == 120
    assert card.ensemble("flow_hmc").options["n_md_steps"] is None
    assert card.ensemble("flow").needs_flow
    assert not card.ensemble("hmc").needs_flow


def test_observables_are_the_standard_ones_and_the_cards():
    card = parse_card(CLASSICAL)
    names = [measurement.observable.name for measurement in card.measurements]
    assert names == ["plaquette", "topological_charge", "wilson_loop_1x2", "wilson_loop_2x2", "wilson_loop_1x3"]
    assert card.measurements[-1] == Measurement(WilsonLoop(1, 3), 7)
    for measurement in card.measurements:
        assert Measurement.from_dict(measurement.as_dict(), card.theory.action) == measurement


def test_overrides():
    card = parse_card(CLASSICAL, ["theory.beta=2.5", "ensemble.hmc.n_configs=7", "ensemble.hmc.start=cold", "seed=9"])
    assert (card.theory.couplings["beta"], card.seed) == (2.5, 9)
    assert (card.ensemble("hmc").n_configs, card.ensemble("hmc").start) == (7, "cold")


BAD = [
    (MINIMAL + "betta = 3", "[theory]: unknown key 'betta'; did you mean 'beta'?"),
    (MINIMAL.replace("2\n", '"two"\n'), "[theory]: beta = 'two': input should be a valid number"),
    (MINIMAL.replace("2\n", "-1\n"), "[theory]: beta must be a number between 0 and 1e+06, got -1.0"),
    (MINIMAL.replace("2\n", "true\n"), "[theory]: beta = True: input should be a valid number"),
    (MINIMAL.replace("beta = 2\n", ""), "[theory]: the key 'beta' is missing"),
    (MINIMAL.replace("[8, 8]", "[8, 8, 8]"), "[theory]: shape"),
    (MINIMAL.replace("[8, 8]", "[8, 1]"), "[theory]: shape.1 = 1: input should be greater than or equal to 2"),
    (MINIMAL.replace("[8, 8]", "8"), "[theory]: shape = 8"),
    (MINIMAL.replace("u1", "u2"), "[theory]: name: unknown name 'u2'; available: "),
    (MINIMAL + 'boundary = "open"', "[theory]: boundary = 'open': input should be 'periodic'"),
    ("seed = -1\n" + MINIMAL, "top level: seed = -1"),
    ("sead = 1\n" + MINIMAL, "top level: unknown key 'sead'; did you mean 'seed'?"),
    ('device = "tpu"\n' + MINIMAL, "top level: device = 'tpu'"),
    ("seed = 1", "the table [theory] is missing"),
    ("theory = 1", "[theory] must be a table"),
    (MINIMAL + "[ensemble]\nname = 'x'", "[[ensemble]] must be an array of tables"),
    (MINIMAL + "[[ensemble]]\nsampler = 'hmc'", "[[ensemble]]: name = None: must be a word"),
    (MINIMAL + "[[ensemble]]\nname = '../x'\nsampler = 'hmc'", "[[ensemble]]: name = '../x': must be a word"),
    (
        MINIMAL + "[[ensemble]]\nname = 'x'\nsampler = 'hcm'",
        "[[ensemble]] x: sampler: unknown name 'hcm'; did you mean 'hmc'?",
    ),
    (MINIMAL + 2 * "[[ensemble]]\nname = 'x'\nsampler = 'hmc'\n", "the name 'x' is given twice"),
    (
        MINIMAL + "[[ensemble]]\nname = 'x'\nsampler = 'hmc'\nn_md_step = 3",
        "[[ensemble]] x: unknown key 'n_md_step'; did you mean 'n_md_steps'?",
    ),
    (
        MINIMAL + "[[ensemble]]\nname = 'x'\nsampler = 'hmc'\nn_confgs = 3",
        "[[ensemble]] x: unknown key 'n_confgs'; did you mean 'n_configs'?",
    ),
    (
        MINIMAL + "[[ensemble]]\nname = 'x'\nsampler = 'hmc'\ntrajectory_length = 0",
        "[[ensemble]] x: trajectory_length must be > 0",
    ),
    (MINIMAL + "[[ensemble]]\nname = 'x'\nsampler = 'hmc'\nn_configs = 0", "[[ensemble]] x: n_configs = 0"),
    (MINIMAL + "[[ensemble]]\nname = 'x'\nsampler = 'hmc'\nn_configs = 10.5", "[[ensemble]] x: n_configs = 10.5"),
    (MINIMAL + "[[ensemble]]\nname = 'x'\nsampler = 'flow_hmc'", "'flow_hmc' needs a flow; add a [flow] table"),
    (MINIMAL + "[flow]\nname = 'plaquette_coupling'\nn_layer = 3", "[flow]: unknown key 'n_layer'; did you mean"),
    (
        MINIMAL + "[flow]\nname = 'plaquette_coupling'\ntransform = 'x'",
        "[flow]: transform: unknown name 'x'; available: moebius",
    ),
    (MINIMAL + "[flow]\nname = 'none'", "[flow]: name: unknown name 'none'; available: checkerboard_coupling, "),
    (MINIMAL.replace("[8, 8]", "[6, 8]") + "[flow]\nname = 'plaquette_coupling'", "got 6 x 8"),
    (MINIMAL + "[training]\nmax_step = 3", "[training]: unknown key 'max_step'; did you mean 'max_steps'?"),
    (MINIMAL + "[training]\nlearning_rate = -1", "[training]: training.learning_rate must be positive"),
    (MINIMAL + "[[observable]]\nname = 'wilson_loop'\nr = 2", "[[observable]] wilson_loop: the key 't' is missing"),
    (MINIMAL + "[[observable]]\nname = 'wilson_loop'\nr = 2\nt = 0", "a Wilson loop needs 1 <= r, t <= 1024"),
    (MINIMAL + "[[observable]]\nname = 'wilson_loop'\nr = 2\nt = 1\nevry = 2", "unknown key 'evry'; did you mean"),
    (MINIMAL + "[theory", "not valid TOML"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message[:60] for _, message in BAD])
def test_what_is_wrong_is_told_in_one_line(text, message):
    with pytest.raises(InputError) as caught:
        parse_card(text, where="run.toml")
    assert str(caught.value).startswith("run.toml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("theory.beta", "must be written table.key=value"),
        ("ensemble.none.n_configs=3", "no entry named 'none'"),
        ("theory.beta=x", "beta = 'x'"),
        ("theory.gamma=1", "unknown key 'gamma'"),
        ("ensemble.n_configs=3", "ensemble.NAME.key=value"),
        ("seed.x=3", "seed is a value, not a table"),
        ("theory.shape.0.x=1", "theory.shape is a list; give it as a whole"),
        ("theory.shape.0=1", "theory.shape is a list; give it as a whole"),
        ("theory.beta.x.y=1", "theory.beta is a value, not a table"),
        ("theory.=1", "must be written table.key=value"),
        ("=1", "must be written table.key=value"),
        ("theory.x\ny=1", "unknown key 'x\\ny'"),
        ("ensemble.hmc.start='" + 5000 * "x" + "'", "is neither 'hot'"),
        ("a" * 5000 + "=1", "unknown key 'aaa"),
        ("observable.wilson_loop.name=[1]", "unknown name [1]"),
    ],
)
def test_wrong_overrides(override, message):
    with pytest.raises(InputError, match=r"^card: ") as caught:
        parse_card(CLASSICAL, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_cards_that_are_not_there_or_not_text(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for path, message in [("none.toml", "No such file"), ("", "is a folder"), ("binary.toml", "not UTF-8")]:
        with pytest.raises(InputError, match=message):
            read_card(tmp_path / path)
