"""What is suspicious about imported configurations is refused or told, and sound ones pass without a word."""

import json

import numpy as np
import pytest
from rich.console import Console

from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.analysis import analyse_files
from lattice_flows.interchange import doubts
from lattice_flows.interchange.fingerprints import Fingerprints
from lattice_flows.interchange.import_fields import import_fields
from lattice_flows.interchange.imported import card_of
from lattice_flows.kernels.random import make_streams
from lattice_flows.lattice import CIRCLE
from lattice_flows.production.header import CHAIN_DIGESTS, chains_of
from lattice_flows.samplers import HMC
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.theories import Phi4, sample_u1
from lattice_flows.theories.measurement import measured

QUIET = Console(quiet=True)
BETA, SHAPE = 2.0, (4, 6)


def links(seed, n_chains=3, n=150, beta=BETA):
    """Independent configurations (n, n_chains, 2, 4, 6)."""
    theta, _ = sample_u1(beta, *SHAPE, make_streams(seed, "other code", range(n * n_chains)))
    return theta.reshape(n, n_chains, *theta.shape[1:])


def save(path, array):
    np.save(path, array)
    return path


def told(paths, out, capsys, theory=None, **options):
    """The warnings of an import."""
    console = Console(width=120)
    import_fields(paths, theory or {"name": "u1", "beta": BETA}, out, console, StopRequest(), **options)
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]


def test_more_chains_than_configurations_ask_for_the_axes(tmp_path, seed):
    theta = links(seed, n_chains=20, n=6)
    file = save(tmp_path / "x.npy", theta)
    with pytest.raises(InputError, match="20 chains of 6 configurations, or the other way round") as caught:
        import_fields([file], {"name": "u1", "beta": BETA}, tmp_path / "x.h5", QUIET, StopRequest())
    for axes, wanted in (("config,chain,mu,x0,x1", theta), ("chain,config,mu,x0,x1", theta.swapaxes(0, 1))):
        assert axes in str(caught.value)
        out = tmp_path / f"{axes[:5]}.h5"
        import_fields([file], {"name": "u1", "beta": BETA}, out, QUIET, StopRequest(), axes)
        with Ensemble.open(out) as ensemble:
            np.testing.assert_array_equal(ensemble.configs(0, ensemble.n_configs), wanted)


WRONG = {
    "directions exchanged": (lambda x: x[:, :, ::-1], "", "axes in another order (see --axes"),
    "degrees": (lambda x: np.degrees(x), "", "degrees in place of radians (angles up to 180)"),
    "positive degrees": (lambda x: np.degrees(x) % 360, "", "degrees in place of radians (angles up to 360)"),
    "lattice axes exchanged": (
        lambda x: x.swapaxes(3, 4),
        "config,chain,mu,x0,x1",
        "axes in another order (see --axes",
    ),
    "hot": (lambda x: np.random.default_rng(0).uniform(-3, 3, x.shape), "", "not thermalised"),
    "cold": (lambda x: 0.01 * x, "", "not thermalised"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_far_off_is_told_once_at_import_and_by_analyse(name, tmp_path, seed, capsys):
    spoil, axes, reason = WRONG[name]
    [line] = told([save(tmp_path / "x.npy", spoil(links(seed)))], tmp_path / "x.h5", capsys, axes=axes)
    assert line.startswith("warning: x: far off what is exact in this theory, in errors: plaquette (")
    assert "other couplings" in line
    assert reason in line
    assert ("degrees" in line) == ("degrees" in name)
    warnings = analyse_files([tmp_path / "x.h5"]).summary["ensembles"]["x"]["warnings"]
    assert sum("more than 5 errors off" in text or text.startswith("frozen") for text in warnings) == 1


def test_axes_mend_exchanged_directions(tmp_path, seed, capsys):
    theta = links(seed)
    file = save(tmp_path / "x.npy", theta[:, :, ::-1].swapaxes(3, 4))  # the other code counts axes the other way round
    assert told([file], tmp_path / "bad.h5", capsys) == []  # the same theory: its axes are only named in another way
    file = save(tmp_path / "y.npy", theta[:, :, ::-1])
    assert len(told([file], tmp_path / "y.h5", capsys)) == 1
    assert told([file], tmp_path / "z.h5", capsys, axes="config,chain,mu,x1,x0") == []


def test_a_coupling_that_is_a_little_off_is_told(tmp_path, seed, capsys):
    file = save(tmp_path / "x.npy", links(seed, n=2000))
    assert told([file], tmp_path / "right.h5", capsys) == []
    assert len(told([file], tmp_path / "wrong.h5", capsys, {"name": "u1", "beta": 1.05 * BETA})) == 1


def phi4(seed, m2, lam, n=800, n_chains=2):
    """Configurations (n, n_chains, 4, 4) of a chain of HMC."""
    sampler = HMC(Phi4(m2=m2, lam=lam), 1.0, 7)
    streams = make_streams(seed, "phi4", range(n_chains))
    x, streams = sampler.action.hot(streams, (4, 4))
    state, found = sampler.init(x, streams), []
    for k in range(n + 50):
        state, _ = sampler.step(state)
        if k >= 50:
            found.append(state.x.copy())
    return np.array(found)


@pytest.mark.parametrize("case", ["sound", "half a kinetic term", "other lam"])
def test_a_theory_without_closed_forms_has_the_schwinger_dyson_equation(case, tmp_path, seed, capsys):
    """Also of the field of a code with (d phi)^2 / 2, which has another normalisation."""
    phi = phi4(seed, 1.0, 1.0) * (np.sqrt(2.0) if case == "half a kinetic term" else 1.0)
    theory = {"name": "phi4", "m2": 1.0, "lam": 4.0 if case == "other lam" else 1.0}
    lines = told([save(tmp_path / "x.npy", phi)], tmp_path / "x.h5", capsys, theory, axes="config,chain,x0,x1")
    assert [doubts.IDENTITY in line for line in lines] == ([] if case == "sound" else [True])


class Measured:
    """What `doubts.pulls` reads of an ensemble."""

    def __init__(self, card, x):
        self.held, _ = measured(card.measurements, x, 0)
        self.series_names, self.series = list(self.held), self.held.__getitem__


def doubts_about(x, card):
    """What is doubted of configurations x (n, B, *event) of U(1)."""
    identity = doubts.SchwingerDyson(card.theory.action, *x.shape[:2])
    identity.add(x)
    fingerprints = Fingerprints(CIRCLE)
    fingerprints.add(x)
    return doubts.pulls(Measured(card, x), card), identity.pull(), fingerprints.twins()


def test_sound_imports_are_not_doubted(seed):
    """200 of 4 to 40 configurations of 1 to 3 chains, in some of which each configuration stands 2 to 4 times."""
    card = card_of({"name": "u1", "beta": BETA}, SHAPE)
    for k in range(200):
        theta = links(seed + k, n_chains=1 + k % 3, n=4 + 9 * (k % 5))
        slow = np.repeat(theta, 1 + max(0, k % 8 - 4), axis=0)[: len(theta)]
        assert doubts_about(slow, card) == ({}, None, None)


AGAIN = {
    "itself": lambda x: x,
    "single precision": lambda x: x.astype(np.float32),
    "complex": lambda x: np.exp(1j * x),
    "complex in single precision": lambda x: np.exp(1j * x).astype(np.complex64),
    "another turn": lambda x: x + 2 * np.pi,
}


@pytest.mark.parametrize("name", AGAIN)
def test_a_chain_that_is_given_twice_is_refused(name, tmp_path, seed):
    theta = links(seed)
    paths = [save(tmp_path / f"{k}.npy", theta[:, k]) for k in range(3)]
    again = save(tmp_path / "again.npy", AGAIN[name](theta[:, 1]))
    with pytest.raises(InputError, match=r"again\.npy: is the same as .*1\.npy, to single precision"):
        import_fields([*paths, again], {"name": "u1", "beta": BETA}, tmp_path / "x.h5", QUIET, StopRequest())
    together = save(tmp_path / "all.npy", np.concatenate([theta, theta[:, 2:]], axis=1))
    with pytest.raises(InputError, match=r"chain 3 of .*all\.npy: is the same as chain 2 of"):
        import_fields([together], {"name": "u1", "beta": BETA}, tmp_path / "x.h5", QUIET, StopRequest())
    assert not (tmp_path / "x.h5").exists()


def test_chains_of_one_start_are_not_the_same(tmp_path, seed):
    theta = links(seed, n_chains=40, n=50)
    theta[:25] = 0.0  # cold, and slow
    import_fields(
        [save(tmp_path / "x.npy", theta)], {"name": "u1", "beta": BETA}, tmp_path / "x.h5", QUIET, StopRequest()
    )


def ising(tmp_path, x):
    import_fields(
        [save(tmp_path / "x.npy", x)], {"name": "ising", "beta": 0.4}, tmp_path / "x.h5", QUIET, StopRequest()
    )


def test_spins_are_the_same_where_all_are(tmp_path, rng):
    """Frozen chains are equal without being one."""
    spins = rng.choice([-1, 1], (20, 3, 2, 2))
    spins[:, 2] = spins[:, 0]
    with pytest.raises(InputError, match="is the same as"):
        ising(tmp_path, spins)
    spins[7, 2, 1, 1] *= -1
    spins[:, 1] = 1
    ising(tmp_path, np.concatenate([spins, np.ones_like(spins)], axis=1))


def two_imports(tmp_path, arrays):
    """Files of one name in folders of their own."""
    paths = []
    for k, array in enumerate(arrays):
        (tmp_path / str(k)).mkdir()
        paths.append(tmp_path / str(k) / "hmc.h5")
        file = save(tmp_path / f"{k}.npy", array)
        import_fields([file], {"name": "u1", "beta": BETA}, paths[-1], QUIET, StopRequest())
    return paths


def test_two_imports_of_one_name_are_replicas(tmp_path, seed):
    theta = links(seed)
    paths = two_imports(tmp_path, [theta[:, 0], theta[:100, 1:]])  # also of unequal length
    [(name, ensemble)] = analyse_files(paths).summary["ensembles"].items()
    assert (name, ensemble["n_chains"], ensemble["n_configs"], ensemble["n_configs_of_longest"]) == ("hmc", 3, 100, 150)
    assert ensemble["files"] == list(map(str, paths))
    attributes = []
    for path in paths:
        with Ensemble.open(path) as file:
            attributes.append(file.attributes)
    assert chains_of(attributes[0]) != chains_of(attributes[1])


@pytest.mark.parametrize("older", [False, True])
def test_the_same_data_twice_are_refused(older, tmp_path, seed, monkeypatch):
    """Also where only one chain of several is. Files of older versions know no more than the numbers of the chains."""
    theta = links(seed)
    paths = two_imports(tmp_path, [theta[:, :2], theta[:, 1:]])
    if older:
        attributes = Ensemble.attributes.fget
        monkeypatch.setattr(
            Ensemble,
            "attributes",
            property(lambda self: {k: v for k, v in attributes(self).items() if k != CHAIN_DIGESTS}),
        )
    with pytest.raises(InputError, match="holds the same chains as"):
        analyse_files(paths)


def test_the_digests_do_not_depend_on_the_file(tmp_path, seed):
    theta = links(seed)
    one, other = two_imports(tmp_path, [theta, np.asfortranarray(theta + 0.0)])
    found = []
    for path in (one, other):
        with Ensemble.open(path) as file:
            found.append(json.loads(file.attributes[CHAIN_DIGESTS]))
    assert found[0] == found[1]
    assert len({*found[0]}) == 3


def test_unequal_chains(tmp_path, seed):
    theta = links(seed)
    paths = [save(tmp_path / "a.npy", theta[:, 0]), save(tmp_path / "b.npy", theta[:120, 1])]
    arguments = {"name": "u1", "beta": BETA}, tmp_path / "x.h5", QUIET, StopRequest()
    with pytest.raises(
        InputError, match=r"b\.npy: configurations 120, but .*a\.npy has 150; .* --shorten .* first 120"
    ):
        import_fields(paths, *arguments)
    import_fields(paths, *arguments, shorten=True)
    with Ensemble.open(tmp_path / "x.h5") as ensemble:
        np.testing.assert_array_equal(ensemble.configs(0, 120), theta[:120, :2])
        assert ensemble.n_configs == 120


PARTS = {
    "the first ones": lambda x: x[:90],
    "without a beginning": lambda x: x[30:],
    "backwards": lambda x: x[::-1],
    "rotated": lambda x: np.roll(x, 5, axis=0),
    "every one twice": lambda x: np.repeat(x, 2, axis=0),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_one_chain_are_not_two(name, tmp_path, seed, capsys):
    """Neither in one import nor in two that are analysed together."""
    theta = links(seed)[:, :1]
    one, other = save(tmp_path / "one.npy", theta), save(tmp_path / "other.npy", PARTS[name](theta))
    with pytest.raises(InputError, match=r"has configurations in common with|is the same as"):
        told([one, other], tmp_path / "both.h5", capsys, shorten=True)
    for file in (one, other):
        (tmp_path / file.stem).mkdir()
        told([file], tmp_path / file.stem / "run.h5", capsys)
    with pytest.raises(InputError, match="has configurations in common with"):
        analyse_files([tmp_path / file.stem / "run.h5" for file in (one, other)])
