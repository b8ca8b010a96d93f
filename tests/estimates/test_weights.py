"""What weights are told to be: an ESS never without its error, and a warning in words where it proves little."""

import json
import math

import numpy as np
import pytest

from lattice_flows.estimates.chain_diagnostics import proposals
from lattice_flows.estimates.sign_sectors import signs_summary
from lattice_flows.estimates.weights import part_summary, weights_summary, weights_warnings
from lattice_flows.report import page_tables, terminal_tables
from lattice_flows.statistics import effective_sample_size
from lattice_flows.terminal import numbers
from lattice_flows.training.history import Record, is_trusted

pytestmark = pytest.mark.quick

N = 4096


def log_normal(rng, sigma, n=N):
    return sigma * rng.standard_normal(n)


def flow_of(log_w, **more):
    """The flow's part of a summary, as far as its line needs it."""
    known = {
        "log_z_exact": None,
        "n_parameters": 123456,
        "train_seconds": 12345.6,
        "train_processes": 1,
        "n_steps": 123456,
    }
    return {**weights_summary(log_w), **known, **more}


@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_sound_weights_have_no_warning(sigma, rng):
    for _ in range(20):
        figures = weights_summary(log_normal(rng, sigma))
        assert figures["reliable"]
        assert not figures["dominated"]
        assert weights_warnings(figures) == []


def test_a_planted_outlier_is_told_in_one_line(rng):
    log_w = log_normal(rng, 0.1)
    log_w[17] = math.log(100.0)
    figures = weights_summary(log_w)
    (text,) = weights_warnings(figures)
    assert figures["dominated"]
    assert figures["log_z_reliable"]  # by the number of effective samples and k-hat, which hardly see a single one
    over_mean = 100.0 / np.exp(log_w).mean()
    assert figures["largest_weight_over_mean"] == pytest.approx(over_mean)
    part = 100.0 * 1e4 / np.exp(2 * log_w).sum()
    assert f"one weight of {N} is {over_mean:.0f} times the mean and has {part:.0f} % of the sum of squares" in text
    log_w[17] = math.log(20.0)  # 9 % of the sum of squares
    assert not weights_summary(log_w)["dominated"]


def test_too_few_effective_samples_are_told(rng):
    figures = weights_summary(log_normal(rng, 0.1, n=150))
    (text,) = weights_warnings(figures)
    assert f"{int(150 * figures['ess'])} effective samples (ESS * N), fewer than 200" in text
    assert "tail" not in text


def test_a_heavy_tail_is_told(rng):
    figures = weights_summary(-np.log(rng.random(200_000)) * 0.9)  # w = u^-0.9: a Pareto tail with k = 0.9
    assert abs(figures["pareto_k"] - 0.9) < 0.2
    assert f"a heavy tail, Pareto k-hat = {figures['pareto_k']:.2f} above 0.5" in weights_warnings(figures)[0]


def test_a_tail_may_be_too_heavy_for_an_ess_alone(rng):
    figures = weights_summary(-np.log(rng.random(200_000)) * 0.4)
    assert (figures["log_z_reliable"], figures["ess_reliable"], figures["reliable"]) == (True, False, False)
    (text,) = weights_warnings(figures)
    assert text.startswith(f"the ESS is at most {figures['ess']:.2g}: the tail")
    assert terminal_tables.ess_of(figures) == f"at most {numbers.number(figures['ess'], 3)}"
    assert terminal_tables.log_z_of(figures) == numbers.with_error(figures["log_z"], figures["log_z_error"])
    heavy = weights_summary(-np.log(rng.random(200_000)) * 0.8)
    assert not heavy["log_z_reliable"]
    assert terminal_tables.log_z_of(heavy) == f"at least {numbers.number(heavy['log_z'], 4)}"


def test_a_tail_that_cannot_be_told_is_null_and_said(rng):
    few = np.zeros(N)
    few[:3] = 1.0  # three weights stand out
    figures = weights_summary(few)
    assert "too few stand out to tell their tail" in weights_warnings(figures)[0]
    assert terminal_tables.pareto_k(figures) == terminal_tables.pareto_k({**figures, "pareto_k": None}) == "unknown"
    perfect = weights_summary(np.zeros(N))
    assert weights_warnings(perfect) == []
    assert terminal_tables.pareto_k(perfect) == terminal_tables.pareto_k({**perfect, "pareto_k": None}) == "none"


@pytest.mark.parametrize(
    ("error", "n", "text"),
    [
        (0.012, 50, "0.600(12)"),
        (0.012, 5000, "0.600(12)"),
        (None, 1000, "0.60"),
        (math.nan, 1000, "0.60"),
        (None, 999, "-"),
        (math.nan, 999, "-"),
    ],
)
def test_an_ess_of_few_samples_is_never_shown_without_its_error(error, n, text):
    assert numbers.ess(0.6, error, n) == text


def test_a_look_at_a_training_is_trusted_as_its_samples_allow():
    record = Record(1, 1.0, 1.0, 0.6, 1.0, 1.0, 1.0, 1.0, ess_error=0.01, largest_share=0.01, n_samples=1024.0)
    assert is_trusted(record)
    for change in ({"n_samples": 300.0}, {"ess": 0.1}, {"largest_share": 0.03}, {"n_samples": None}):
        assert not is_trusted(Record(**{**record.__dict__, **change})), change


def test_the_line_of_a_flow_has_error_share_and_tail(rng):
    flow = flow_of(log_normal(rng, 0.5))
    first, second = terminal_tables.flow_line(flow).splitlines()
    ess = numbers.with_error(flow["ess"], flow["ess_error"])
    assert first.startswith(f"flow: ESS {ess} of {N} samples; largest weight ")
    share, over_mean = 100 * flow["largest_weight_share"], flow["largest_weight_over_mean"]
    assert f"{numbers.number(over_mean, 2)} x mean ({numbers.number(share, 2)} % of the sum)" in first
    assert f"Pareto k-hat {flow['pareto_k']:.2f}" in first
    assert second.strip().startswith("log Z ")
    assert "123456 parameters, 12346 s of training (123456 steps)" in second
    poor = terminal_tables.flow_line(flow_of(log_normal(rng, 4.0, 16_384)))
    assert poor.splitlines()[0].endswith("UNRELIABLE")
    assert max(map(len, poor.splitlines())) <= 120
    assert "no parameters, so nothing to train" in terminal_tables.flow_line({**flow, "n_parameters": 0})


def test_the_error_within_a_part_is_the_spread_of_many(rng):
    """Of independent configurations; half as many as are counted would be seen."""
    found = [part_summary(log_normal(rng, 0.5, 400), 0.5) for _ in range(400)]
    spread = np.std([one["ess"] for one in found], ddof=1)
    error = np.sqrt(np.mean([one["ess_error"] ** 2 for one in found]))
    tolerance = 4.5 / math.sqrt(2 * 400)
    assert abs(error / spread - 1) < tolerance
    assert abs(math.sqrt(2) * error / spread - 1) > tolerance
    assert part_summary(np.zeros(1), 0.5)["ess_error"] is None
    correlated = part_summary(log_w := log_normal(rng, 0.5, 400), 4.5)
    assert correlated["ess_error"] == pytest.approx(3.0 * effective_sample_size(log_w).error)


class Samples:
    """An ensemble of flow samples of a scalar theory."""

    sampler = {"name": "flow_samples"}  # noqa: RUF012
    sampled_with_weights = weighted = True
    populations, n_particles = False, 1

    def __init__(self, magnetisation, log_w):
        self.held = {"magnetisation": list(magnetisation.T), "log_w": list(log_w.T)}

    def has(self, name):
        return name in self.held

    def together(self, *names):
        return [self.held[name] for name in names]

    def proposals(self, name):
        return np.concatenate(self.held[name])


def test_a_flow_that_knows_one_phase_only_is_seen_by_the_sign(rng):
    sign = np.where(rng.random((2000, 4)) < 0.9, 1.0, -1.0)  # the other is proposed with a tenth of its probability ...
    log_w = np.where(sign > 0, math.log(0.5 / 0.9), math.log(0.5 / 0.1) + rng.normal(-0.5, 1.0, sign.shape))
    plus, minus = signs_summary(Samples(0.3 * sign, log_w))
    assert (plus["sign"], minus["sign"]) == (1, -1)
    assert plus["n_configs"] + minus["n_configs"] == sign.size
    for row in (plus, minus):  # ... which the weights mend
        assert abs(row["share"] - row["exact"]) < 4.5 * row["share_error"]
    assert plus["ess"] == pytest.approx(1.0)
    assert abs(minus["ess"] - math.exp(-1.0)) < 4.5 * minus["ess_error"]
    (only,) = signs_summary(Samples(np.full((50, 2), 0.3), np.zeros((50, 2))))
    assert (only["sign"], only["share"]) == (1, 1.0)


def test_equal_weights_and_other_theories_have_no_signs(rng):
    samples = Samples(np.ones((50, 2)), np.zeros((50, 2)))
    samples.weighted = False
    assert signs_summary(samples) is None
    samples.weighted = True
    del samples.held["magnetisation"]
    assert signs_summary(samples) is None


def test_averages_that_need_unreliable_weights_are_in_doubt(rng):
    """Those of a chain do not need the weights of its proposals."""
    samples = Samples(np.ones((500, 2)), 6.0 * rng.standard_normal((500, 2)))
    assert proposals(samples).doubts
    samples.sampled_with_weights = False
    found = proposals(samples)
    assert found.warnings
    assert not found.doubts


def test_the_titles_of_a_page_know_every_theory():
    improved = {"name": "u1_improved", "shape": [8, 8], "boundary": "periodic", "beta": 6.0, "c1": 0.05}
    assert page_tables.title(improved) == "2D improved U(1), 8 × 8, β = 6, c₁ = 0.05"


def test_the_improved_action_is_at_hand():
    import lattice_flows
    from lattice_flows.theories import ImprovedU1

    assert lattice_flows.ImprovedU1 is ImprovedU1


def test_a_summary_of_weights_is_json_without_what_json_does_not_know(rng):
    from lattice_flows.estimates.summary import _plain

    for log_w in (np.zeros(50), np.array([0.0, -np.inf, 1.0]), log_normal(rng, 30.0)):
        json.dumps(_plain(weights_summary(log_w)), allow_nan=False)
