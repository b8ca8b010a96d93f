"""Trainings of the multiscale flow: resumed to the bit, and begun from a smaller lattice."""

from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numba
import pytest
import torch
from torch import Tensor

from lattice_flows.flows import Flow, initialise, multiscale
from lattice_flows.theories import WilsonU1
from lattice_flows.training import (
    CHECKPOINT_NAME,
    HISTORY_NAME,
    TrainingResult,
    TrainingSettings,
    evaluate,
    read_checkpoint,
    read_history,
    recommended,
    train,
)

ACTION = WilsonU1(2.0)
CONDITIONERS = pytest.mark.parametrize("conditioner", ["mlp", "structured"])


def _flow(conditioner: str, seed: int = 1, side: int = 4) -> Flow:
    """The multiscale flow of a square, its weights drawn and moved."""
    options: dict[str, Any] = {"mlp": {"n_bins": 5, "n_knots": 9, "hidden": (6,)}, "structured": {"n_harmonics": 4}}
    flow = multiscale((side, side), ACTION, conditioner=conditioner, **options[conditioner])  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    initialise(flow, generator)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return flow


def _settings(conditioner: str, **changes: Any) -> TrainingSettings:
    """What is recommended, on a small scale: annealing, and batches that grow."""
    small = {"max_steps": 40, "batch_size": 16, "final_batch_size": 64, "monitor_every": 10, "monitor_samples": 64}
    return TrainingSettings(**{**recommended("multiscale", {"conditioner": conditioner}), **small, **changes})


def _train(folder: Path, conditioner: str, flow: Flow, stop: int = 10**6, **changes: Any) -> TrainingResult:
    """Ended when should_stop is asked for the `stop`-th time: once a step."""
    calls = iter(range(1, 10**7))
    header = {"theory": {"name": "u1"}, "flow": {"name": "multiscale", "conditioner": conditioner}}
    settings = _settings(conditioner, **changes)
    return train(flow, ACTION, settings, folder, seed=3, header=header, should_stop=lambda: next(calls) >= stop)


def _content(folder: Path) -> tuple[list[Tensor], list[tuple[object, ...]]]:
    """Everything that a resume must reproduce, times excepted."""
    checkpoint = read_checkpoint(folder / CHECKPOINT_NAME)
    moments = [value for state in checkpoint.optimizer["state"].values() for value in state.values()]
    kept = [*checkpoint.clip.values(), *checkpoint.noise.values()]
    tensors = [*checkpoint.flow.values(), *checkpoint.average.values(), *moments, *kept, *checkpoint.generators]
    history = [astuple(replace(row, seconds=0.0)) for row in read_history(folder / HISTORY_NAME)]
    return tensors, [*history, (checkpoint.best, checkpoint.worst_loss)]


def _assert_same(one: Path, other: Path) -> None:
    (tensors, history), (others, other_history) = _content(one), _content(other)
    assert len(tensors) == len(others)
    assert all(torch.equal(a, b) for a, b in zip(tensors, others))
    assert history == other_history


@pytest.mark.parametrize("anneal", [0.0, 0.4])
@CONDITIONERS
def test_a_resumed_training_is_the_uninterrupted_one(conditioner: str, anneal: float, tmp_path: Path) -> None:
    """By regions from the first step to the last; 7 and 24 are neither looks nor doublings."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert _train(whole, conditioner, _flow(conditioner), anneal=anneal).reason == "max_steps"
    for seed, stop, done in ((1, 7, 7), (8, 17, 24)):
        result = _train(parts, conditioner, _flow(conditioner, seed), stop, anneal=anneal)
        assert (result.reason, result.step) == ("stopped", done)
    assert _train(parts, conditioner, _flow(conditioner, seed=9), anneal=anneal).step == 40
    _assert_same(whole, parts)


@CONDITIONERS
def test_a_training_has_the_same_bits_for_any_numba_threads(conditioner: str, tmp_path: Path) -> None:
    _train(tmp_path / "one", conditioner, _flow(conditioner))
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    _train(tmp_path / "two", conditioner, _flow(conditioner))
    _assert_same(tmp_path / "one", tmp_path / "two")


@CONDITIONERS
def test_a_larger_lattice_begins_nearer_to_its_target(
    conditioner: str, tmp_path: Path, generator: torch.Generator
) -> None:
    """The regions of 4 x 4 are regions of 8 x 8; what these have more of keeps its own weights."""
    _train(tmp_path / "small", conditioner, _flow(conditioner), max_steps=150)
    parent = tmp_path / "small" / CHECKPOINT_NAME
    own, large = (_flow(conditioner, seed=5, side=8) for _ in range(2))
    before = {name: weight.detach().clone() for name, weight in own.named_parameters()}
    still = {"max_steps": 1, "learning_rate": 1e-12, "init_from": str(parent)}
    _train(tmp_path / "large", conditioner, large, **still)
    inherited = read_checkpoint(parent).average
    assert 0 < sum(name in inherited for name in before) < len(before)
    for name, weight in large.named_parameters():
        torch.testing.assert_close(weight.detach(), inherited.get(name, before[name]), atol=1e-9, rtol=0)
    bounds = [evaluate(flow.requires_grad_(False), ACTION, 1000, generator).mean() for flow in (own, large)]
    assert bounds[1] > bounds[0] + (5.0 if conditioner == "mlp" else 0.1)
