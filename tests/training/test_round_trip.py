"""What every evaluation is off by where a map and its inverse disagree."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gaussian import Affine, GaussianAction, Normal
from torch import Tensor

from lattice_flows.estimates.summary_types import Integration
from lattice_flows.estimates.weights import round_trip_warnings, step_warnings
from lattice_flows.flows import Chain, Flow, plaquette_coupling
from lattice_flows.production.train import _seen
from lattice_flows.report.terminal_tables import step_error
from lattice_flows.theories import WilsonU1
from lattice_flows.training import (
    CHECKPOINT_NAME,
    HISTORY_NAME,
    MAX_ROUND_TRIP,
    Record,
    TrainingSettings,
    evaluate,
    read_checkpoint,
    read_history,
    round_trip,
    train,
)

ACTION = GaussianAction((0.6, -0.2), (0.75, 0.9))
SETTINGS = TrainingSettings(max_steps=4, batch_size=16, monitor_every=2, monitor_samples=64)


class Squeezed(Affine):
    """x = 1 + size z, whose digits are lost in the 1: the inverse is finite, and wrong for a small size."""

    def __init__(self, size: float) -> None:
        super().__init__([1.0, 1.0], [math.log(size)] * 2)
        self.requires_grad_(False)


class WithoutInverse(Affine):
    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class Astray(Affine):
    """Its inverse is not a number."""

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().inverse(x)
        return z * math.nan, log_det


def _squeezed(size: float) -> Flow:
    """Squeezed and widened again: every weight is finite, at any size."""
    back = Affine([-1.0 / size] * 2, [-math.log(size)] * 2)
    return Flow(Normal(2), Chain(Squeezed(size), back))


@pytest.mark.parametrize(("size", "least", "most"), [(0.1, 0.0, 1e-12), (1e-12, MAX_ROUND_TRIP, 1.0)])
def test_a_map_that_has_lost_its_digits_is_told(
    size: float, least: float, most: float, tmp_path: Path, generator: torch.Generator
) -> None:
    """In the history, the checkpoint and the warnings, though every weight is finite."""
    torch.set_num_threads(1)
    flow = _squeezed(size)
    assert all(map(math.isfinite, evaluate(flow, ACTION, 100, generator)))
    settings = TrainingSettings(
        objective="reverse_kl", max_steps=4, batch_size=16, monitor_every=2, monitor_samples=64, learning_rate=1e-14
    )
    train(flow, ACTION, settings, tmp_path, seed=1, header={})
    found = [row.round_trip for row in read_history(tmp_path / HISTORY_NAME)]
    assert all(error is not None and least <= error < most for error in found), found
    kept = read_checkpoint(tmp_path / CHECKPOINT_NAME).round_trip
    assert kept == found[-1]
    assert len(round_trip_warnings(kept)) == (size < 0.1)


def test_it_is_the_error_of_log_w_and_leaves_the_generator(generator: torch.Generator) -> None:
    flow, before = _squeezed(1e-12), generator.get_state()
    error = round_trip(flow, ACTION, 50, generator)
    assert torch.equal(generator.get_state(), before)
    x, log_q = flow.sample(50, generator)
    assert error == float((log_q - flow.log_prob(x)).detach().abs().max())


def test_what_is_not_known_and_what_is_not_finite(generator: torch.Generator) -> None:
    one = [0.0, 0.0]
    assert round_trip(Flow(Normal(2), WithoutInverse(one, one)), ACTION, 10, generator) is None
    assert round_trip(Flow(Normal(2), Astray(one, one)), ACTION, 10, generator) == math.inf
    assert round_trip_warnings(None) == []
    assert "by up to inf" in round_trip_warnings(math.inf)[0]


def test_networks_in_single_precision_are_within_the_limit(generator: torch.Generator) -> None:
    error = round_trip(plaquette_coupling((8, 8)), WilsonU1(2.0), 64, generator)
    assert error is not None
    assert error < 0.1 * MAX_ROUND_TRIP


def test_a_flow_without_parameters_has_one_too(tmp_path: Path) -> None:
    flow = Flow(Normal(2), Squeezed(1e-12))
    train(flow, ACTION, SETTINGS, tmp_path, seed=1, header={})
    kept = read_checkpoint(tmp_path / CHECKPOINT_NAME).round_trip
    assert kept is not None
    assert kept > MAX_ROUND_TRIP


def test_the_line_of_a_training_says_so() -> None:
    record = Record(5, 0.1, -1.0, 0.5, 2.0, 1e-3, 1.0, 3.0, n_samples=1024.0, round_trip=2e-4)
    assert _seen(record).endswith("log w off by 0.0002 (round trip)")
    for error in (None, MAX_ROUND_TRIP):
        assert "round trip" not in _seen(replace(record, round_trip=error))


def test_the_error_of_an_integral_stands_beside_the_ess() -> None:
    """In the line of a training, in that of a flow, and, where it is large, as a warning."""
    record = Record(5, 0.1, -1.0, 0.5, 2.0, 1e-3, 1.0, 3.0, n_samples=1024.0, step_error=2e-5)
    assert ", step error 2e-05, log Z" in _seen(record)
    assert "step error" not in _seen(replace(record, step_error=None))
    integration: Integration = {"n_steps": 40, "step_error": 2e-5}
    assert step_error({"integration": integration}) == "integrated in 40 steps, log w good to 2.0e-05"
    assert step_error({}) == step_error({"integration": None}) == ""
    assert step_warnings(None) == step_warnings(integration) == []
    (told,) = step_warnings({**integration, "step_error": 3e-4})
    assert "changes by up to 0.0003" in told
