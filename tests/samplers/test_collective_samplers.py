"""Windows and biases in other variables than the charge: closed forms, a reference in the broken phase, quadrature."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from scipy.integrate import quad

from lattice_flows.ensembles import FieldSpec
from lattice_flows.kernels.random import make_streams
from lattice_flows.lattice import REAL, Space
from lattice_flows.samplers import HMC, Cluster, HeatBath, Metadynamics, Mixture, Part, Umbrella
from lattice_flows.samplers.umbrella import window_potentials
from lattice_flows.statistics import JoinedWindows, gamma_method
from lattice_flows.theories import Action, CollectiveVariable, ExactU1, ImprovedU1, LinkEnergy, LowestMode, Phi4
from lattice_flows.theories.phi4.kernels.fields import magnetisation
from lattice_flows.theories.u1.kernels import fields as u1

BROKEN, SHAPE = Phi4(-4.0, 3.5), (6, 6)
"""Its two peaks of P(M) are a hundred times as high as the valley between them."""


def produced(sampler, x, streams, n_thermalisation, n_configs, n_updates, observables):
    """Series (n, B) of the named functions of x, and those of the info."""
    state = sampler.init(x, streams)
    for k in range(n_thermalisation):
        state = sampler.thermalise(state, k / n_thermalisation)
    series = {name: [] for name in observables}
    for _ in range(n_configs):
        state, info = sampler.step(state, n_updates)
        for name, measure in observables.items():
            series[name].append(measure(state.x))
        for name in info._fields:
            series.setdefault(name, []).append(getattr(info, name))
    return state, {name: np.array(values) for name, values in series.items()}


def joined(sampler, series, **wrong):
    """The windows joined by MBAR; `wrong` settings are planted errors."""
    settings = {name: getattr(sampler, name) for name in ("n_windows", "q_max", "spring", "centre")} | wrong
    name = sampler.action.collective_variable(sampler.variable).series
    potentials = [window_potentials(settings, chain) for chain in series[name].T]
    return JoinedWindows(potentials, series["window"][0].astype(int).tolist())


OF_SCALARS = {"m": magnetisation, "energy": LinkEnergy(), "mode": LowestMode()}


def free_pulls(sampler, series, exact, **wrong):
    windows = joined(sampler, series, **wrong)
    truth = {
        "M": (series["m"], 0.0),
        "M^2": (series["m"] ** 2, exact.magnetisation_squared),
        "|M|": (np.abs(series["m"]), exact.abs_magnetisation),
        "energy": (series["energy"], exact.link_energy),
        "mode": (series["mode"], exact.lowest_mode_squared),
    }
    found = {name: (windows.estimate(values), value) for name, (values, value) in truth.items()}
    return {name: (estimate.value - value) / estimate.error for name, (estimate, value) in found.items()}


# Trajectories shorter than half a period of any mode: one that meets it hardly moves the mode's square.
POINTS = [
    ((6, 4), Umbrella(Phi4(0.3, 0.0), 5, 20.0, 0.6, 1.0, 4)),
    ((6, 4), Umbrella(Phi4(0.3, 0.0), 5, 20.0, 0.6, 1.0, 4, centre=-0.1, exchange_every=1)),
    ((8,), Umbrella(Phi4(0.5, 0.0), 4, 8.0, 0.8, 1.0, 4, exchange_every=3)),
    ((3, 4, 2), Umbrella(Phi4(0.7, 0.0), 4, 30.0, 0.4, 0.7, 3, variable="magnetisation")),
]


@pytest.mark.parametrize(("shape", "sampler"), POINTS, ids=[f"{shape}-{k}" for k, (shape, _) in enumerate(POINTS)])
def test_windows_of_the_free_field(shape, sampler, seed):
    """A pull is Student's t with 19 degrees of freedom, where 6 is as rare as 4.5 of a normal."""
    x, streams = sampler.action.direct_sampler().draw(shape, make_streams(seed, "test", range(4 * sampler.n_windows)))
    _, series = produced(sampler, x, streams, 40, 800, 2, OF_SCALARS)
    found = free_pulls(sampler, series, sampler.action.closed_forms(shape))
    assert max(map(abs, found.values())) < 6.0, found


def test_windows_six_per_cent_out_of_place_are_caught(seed):
    """And a centre that is off by eight per cent of their range."""
    shape, sampler = POINTS[0]
    x, streams = sampler.action.direct_sampler().draw(shape, make_streams(seed, "test", range(30)))
    _, series = produced(sampler, x, streams, 40, 1200, 2, OF_SCALARS)
    exact = sampler.action.closed_forms(shape)
    for wrong in ({}, {"q_max": 0.636}, {"centre": 0.048}):
        found = free_pulls(sampler, series, exact, **wrong)
        assert (max(map(abs, found.values())) > 6.0) == bool(wrong), (wrong, found)


EDGES = np.linspace(0.0, 0.9, 7)


def bins(m):
    """Indicators of |M| in each bin, and of what lies beyond."""
    place = np.digitize(np.abs(m), EDGES)
    return {f"P{k}": (place == k).astype(float) for k in range(1, 7)}


@pytest.fixture(scope="module")
def reference():
    """P(|M|), <M^2> of the broken phase, from heat bath and clusters of signs."""
    sampler = Mixture(BROKEN, (Part(HeatBath(BROKEN), 2), Part(Cluster(BROKEN), 3)))
    x, streams = BROKEN.hot(make_streams(11, "reference", range(100)), SHAPE)
    _, series = produced(sampler, x, streams, 150, 1500, 1, {"m": magnetisation})
    m = series["m"]
    return {name: gamma_method(values) for name, values in {**bins(m), "M^2": m**2, "|M|": np.abs(m)}.items()}


def deviations(found, reference):
    return {
        name: (found[name].value - truth.value) / np.hypot(found[name].error, truth.error)
        for name, truth in reference.items()
    }


@pytest.mark.parametrize("exchange_every", [0, 2])
def test_windows_of_the_broken_phase(exchange_every, reference, seed):
    """P(|M|) from peak to valley, against a reference that jumps from peak to peak. Windows four per cent out of place
    are caught."""
    sampler = Umbrella(BROKEN, 7, 60.0, 0.75, 1.0, 6, exchange_every=exchange_every)
    x, streams = BROKEN.hot(make_streams(seed, "test", range(28)), SHAPE)
    _, series = produced(sampler, x, streams, 100, 1000, 2, {"m": magnetisation})
    for off in (0.0, 0.04):
        windows = joined(sampler, series, q_max=0.75 * (1.0 + off))
        values = {**bins(series["m"]), "M^2": series["m"] ** 2, "|M|": np.abs(series["m"])}
        found = {name: windows.estimate(one) for name, one in values.items()}
        pulls = deviations(found, reference)
        assert (max(map(abs, pulls.values())) > 6.0) == (off > 0), pulls
    assert found["P1"].value < 0.03


def built(sampler, shape, n_chains, n_deposits, seed):
    x, streams = sampler.action.hot(make_streams(seed, "test", range(n_chains)), shape)
    state = sampler.init(x, streams)
    for k in range(n_deposits):
        state = sampler.thermalise(state, k / n_deposits)
    return sampler.step(state, 50)[0]


def test_metadynamics_of_the_broken_phase(reference, seed):
    """The bias takes chains from peak to peak, which HMC hardly does; with its weights P(|M|) is the reference's."""
    sampler = Metadynamics(BROKEN, 1.0, 6, height=0.1, width=0.06, bias_factor=8.0, q_max=0.95, n_grid=201)
    state = built(sampler, SHAPE, 60, 600, seed)
    np.testing.assert_allclose(state.bias, state.bias[:, ::-1], rtol=0, atol=1e-13)
    m, log_w = [], []
    for _ in range(1500):
        state, info = sampler.step(state, 3)
        m.append(magnetisation(state.x))
        log_w.append(info.log_w)
    m, log_w = np.array(m), np.array(log_w)
    np.testing.assert_allclose(info.collective_variable, m[-1], rtol=0, atol=1e-13)
    values = {**bins(m), "M^2": m**2, "|M|": np.abs(m)}
    for factor, caught in ((1.0, False), (1.05, True)):
        found = {name: jackknife(one, factor * log_w) for name, one in values.items()}
        pulls = deviations(found, reference)
        assert (max(map(abs, pulls.values())) > 4.5) == caught, pulls
    hmc = HMC(BROKEN, 1.0, 6)
    _, plain = produced(hmc, state.x, state.streams, 0, 1500, 3, {"m": magnetisation})
    assert flips(m) > 5 * flips(plain["m"])


@dataclass(frozen=True)
class Found:
    value: float
    error: float


def jackknife(values, log_w):
    """<w O> / <w> over chains that are independent, each with its own bias."""
    w = np.exp(log_w - log_w.max())
    sums, weights = (w * values).sum(0), w.sum(0)
    without = (sums.sum() - sums) / (weights.sum() - weights)
    return Found(sums.sum() / weights.sum(), float(np.sqrt((without.size - 1) * without.var())))


def flips(m):
    return int((np.diff(np.sign(m), axis=0) != 0).sum())


class DoubleWell(Action):
    """S = 4 (x^2 - 1)^2 - 0.3 x of one number, a target without a lattice, computed by torch."""

    space: ClassVar[Space] = REAL
    dimensions = range(1)
    collective_variables: ClassVar = {"x": CollectiveVariable(lambda x: x[:, 0], np.ones_like, symbol="x")}

    def field(self, lattice_shape):
        return FieldSpec("x", ("coordinate",), (1,))

    def __call__(self, x):
        return 4.0 * (x[:, 0] ** 2 - 1.0) ** 2 - 0.3 * x[:, 0]


def moment(power):
    """<x^power> of the double well by quadrature."""

    def weighed(x, power):
        return x**power * np.exp(-4.0 * (x**2 - 1.0) ** 2 + 0.3 * x)

    return quad(weighed, -3, 3, args=(power,))[0] / quad(weighed, -3, 3, args=(0,))[0]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    """Of the warning that torch is slow."""
    monkeypatch.setattr("lattice_flows.theories.action._tell_slow", lambda *told: None)


def test_a_target_without_a_lattice(seed):
    """Windows with swaps, and a bias that is not mirrored: the two wells have different depths."""
    x = np.random.default_rng(seed).uniform(-1.3, 1.3, (60, 1))
    streams = make_streams(seed, "test", range(60))
    sampler = Umbrella(DoubleWell(), 6, 6.0, 1.2, 1.0, 4, centre=0.05, exchange_every=1)
    _, series = produced(sampler, x, streams, 40, 400, 1, {"x": lambda x: x[:, 0]})
    np.testing.assert_array_equal(series["x"], series["collective_variable"])
    windows = joined(sampler, series)
    for power in (1, 2):
        found = windows.estimate(series["x"] ** power)
        assert abs(found.value - moment(power)) < 6.0 * found.error, power
    assert series["round_trips"].sum() > 20
    meta = Metadynamics(DoubleWell(), 1.0, 4, height=0.3, width=0.15, q_max=1.6, n_grid=101, centre=0.1)
    state, series = produced(meta, x, streams, 150, 400, 1, {"x": lambda x: x[:, 0]})
    assert np.abs(state.bias - state.bias[:, ::-1]).max() > 0.3
    for power in (1, 2):
        found = jackknife(series["x"] ** power, series["log_w"])
        assert abs(found.value - moment(power)) < 4.5 * found.error, power
    plain = jackknife(series["x"], 0.0 * series["log_w"])
    assert abs(plain.value - moment(1)) > 4.5 * plain.error


@pytest.mark.parametrize("kind", [Umbrella, Metadynamics])
def test_the_charge_of_the_improved_action(kind, seed):
    """At c1 = 0 it has closed forms, and computes with the bodies of any theory and any variable."""
    action, shape, exact = ImprovedU1(2.0, 0.0), (6, 6), ExactU1(2.0, 36)
    x, streams = action.direct_sampler().draw((2, *shape), make_streams(seed, "test", range(40)))
    more = {"plaquette": u1.mean_plaquette, "Q": lambda x: np.rint(u1.topological_charge(x))}
    if kind is Umbrella:
        sampler = Umbrella(action, 5, 8.0, 1.2, n_md_steps=5, exchange_every=4)
        _, series = produced(sampler, x, streams, 60, 600, 2, more)
        estimate, most = joined(sampler, series).estimate, 6.0
    else:
        sampler = Metadynamics(action, 1.0, 5, q_max=2.6)
        _, series = produced(sampler, x, streams, 200, 400, 3, more)
        most = 4.5

        def estimate(values):
            return jackknife(values, series["log_w"])

    assert series["smooth_charge"].shape == series["Q"].shape
    for values, truth in ((series["plaquette"], exact.plaquette), (series["Q"] ** 2, exact.charge_squared)):
        found = estimate(values)
        assert abs(found.value - truth) < most * found.error


def test_a_range_that_nobody_knows_must_be_given(seed):
    improved = ImprovedU1(1e5, -0.1)  # beyond the reach of its closed forms
    x, streams = improved.hot(make_streams(seed, "test", range(2)), (2, 4, 4))
    sampler = Umbrella(improved, 3, n_md_steps=4)
    with pytest.raises(ValueError, match="q_max must be given: ImprovedU1 does not know the range of Q_s"):
        sampler.tune(sampler.init(x, streams), 4)
    for kind in (lambda **more: Umbrella(BROKEN, 3, **more), lambda **more: Metadynamics(BROKEN, **more)):
        with pytest.raises(ValueError, match="q_max must be given: Phi4 has no rule for the range of M"):
            kind()
        assert kind(q_max=0.8, n_md_steps=4).tuned


def test_deposits_about_a_centre(seed):
    """They are where the chain is and, of an odd variable, where its image is; the grid counts from its centre."""
    sampler = Metadynamics(BROKEN, 1.0, 6, q_max=1.4, n_grid=281, centre=0.3)
    x = np.full((2, *SHAPE), 0.5) * np.array([1.0, -1.0])[:, None, None]
    later = sampler.thermalise(sampler.init(x, make_streams(seed, "test", range(2))), 0.5)
    grid = 0.3 + np.linspace(-1.4, 1.4, 281)
    hills = [np.exp(-0.5 * ((grid - s) / 0.1) ** 2) + np.exp(-0.5 * ((grid + s) / 0.1) ** 2) for s in later.charge]
    np.testing.assert_allclose(later.bias, 0.2 * np.array(hills), rtol=0, atol=1e-13)
    np.testing.assert_allclose(
        sampler.target(later, later.x) - later.action,
        [np.interp(s, grid, own) for s, own in zip(later.charge, later.bias, strict=True)],
        rtol=0,
        atol=1e-12,
    )
