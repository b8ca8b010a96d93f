"""Samples of a flow, weighted anew while the target is annealed."""

from pathlib import Path

import pytest
import torch
from gaussian import GaussianAction, gaussian_flow

from lattice_flows.training import (
    HISTORY_NAME,
    TrainingSettings,
    read_history,
    train,
)
from lattice_flows.training.reweighted_buffer import ReweightedBuffer

pytestmark = pytest.mark.quick

CPU, N = torch.device("cpu"), 40_000
ACTION = GaussianAction((0.5,), (0.8,))


def _pull(buffer: ReweightedBuffer, variance: float, generator: torch.Generator) -> float:
    """Of the weighted mean square about 0.5, in its error for independent weighted samples."""
    square = (buffer.ring.x[:, 0] - 0.5) ** 2
    w = torch.softmax(buffer.log_w, 0)
    mean = w @ square
    drawn = ((buffer.draw(N, generator)[:, 0] - 0.5) ** 2).mean()
    assert abs(float(drawn - mean)) < 0.02  # systematic resampling adds little
    return float((mean - variance) / (w**2 @ (square - mean) ** 2).sqrt())


def test_old_samples_get_the_weights_of_the_new_action(generator: torch.Generator) -> None:
    """Drawn at half of S, used at S: the variance of 1.28 becomes 0.64; with the old weights it would be far off."""
    flow = gaussian_flow([0.3], [0.2])
    buffer = ReweightedBuffer(N, (1,), torch.float64, CPU)
    buffer.advance(flow, ACTION.scaled(0.5), N, generator, torch.float64)
    assert abs(_pull(buffer, 1.28, generator)) < 4.5
    before = buffer.log_w
    buffer.advance(flow, ACTION, 10, generator, torch.float64)
    assert abs(_pull(buffer, 0.64, generator)) < 4.5
    buffer.log_w = before
    assert abs(_pull(buffer, 0.64, generator)) > 10


def test_places_that_hold_nothing_have_no_weight(generator: torch.Generator) -> None:
    buffer = ReweightedBuffer(1000, (1,), torch.float64, CPU)
    log_w = buffer.advance(gaussian_flow([0.3], [0.2]), ACTION, 3, generator, torch.float64)
    assert torch.isfinite(buffer.log_w).sum() == 3
    torch.testing.assert_close(buffer.log_w[:3], log_w)
    assert (buffer.draw(100, generator) != 0.0).all()


def test_a_flow_learns_from_its_own_samples_while_the_target_moves(tmp_path: Path) -> None:
    """It ends eight standard deviations away, where single weights are all there is for who looks there at once."""
    torch.set_num_threads(1)
    action = GaussianAction((8.0, 0.0), (1.0, 1.0))

    def ess(**keys: object) -> float:
        settings = TrainingSettings(
            objective="self_normalised", max_steps=250, batch_size=256, learning_rate=0.1, monitor_every=125,
            buffer_size=2048, **keys,
        )  # fmt: skip
        folder = tmp_path / str(len(keys))
        train(gaussian_flow([0.0] * 2, [0.0] * 2), action, settings, folder, seed=1, header={})
        return read_history(folder / HISTORY_NAME)[-1].ess

    assert ess() < 0.5
    assert ess(anneal=0.7) > 0.95
