"""The ring of samples: what it holds, and how it is drawn from."""

import math

import torch

from lattice_flows.training import SampleBuffer

CPU = torch.device("cpu")


def _filled(log_w: list[float]) -> SampleBuffer:
    buffer = SampleBuffer(len(log_w), (1,), torch.float64, CPU)
    buffer.add(torch.arange(float(len(log_w)), dtype=torch.float64)[:, None], torch.tensor(log_w))
    return buffer


def test_the_oldest_go_first() -> None:
    buffer = SampleBuffer(5, (1,), torch.float64, CPU)
    for first in (0.0, 3.0):
        x = first + torch.arange(3, dtype=torch.float64)[:, None]
        buffer.add(x, x[:, 0])
    assert sorted(buffer.x[:, 0].tolist()) == [1, 2, 3, 4, 5]
    assert torch.equal(buffer.x[:, 0], buffer.log_w)
    buffer.add(10 + torch.arange(12, dtype=torch.float64)[:, None], torch.zeros(12))
    assert sorted(buffer.x[:, 0].tolist()) == [17, 18, 19, 20, 21]


def test_draws_in_proportion_to_the_weights(generator: torch.Generator) -> None:
    """Systematic resampling: every count is within one of its expectation."""
    buffer = _filled([math.log(w) for w in (1.0, 2.0, 3.0, 2.0)])
    counts = torch.bincount(buffer.draw(800, generator)[:, 0].long(), minlength=4)
    assert (counts - torch.tensor([100, 200, 300, 200])).abs().max() <= 1


def test_a_single_weight_is_truncated_at_sqrt_n_times_the_mean(generator: torch.Generator) -> None:
    """N = 100 weights of 1 but for one of 901: the mean is 10, so it counts as 100 beside 99 others."""
    buffer = _filled([math.log(901.0), *[0.0] * 99])
    share = float((buffer.draw(10_000, generator)[:, 0] == 0).double().mean())
    assert abs(share - 100 / 199) < 1e-3


def test_what_was_never_filled_is_never_drawn(generator: torch.Generator) -> None:
    buffer = SampleBuffer(1000, (1,), torch.float64, CPU)
    buffer.add(torch.ones(3, 1, dtype=torch.float64), torch.full((3,), -700.0))
    assert torch.equal(buffer.draw(50, generator), torch.ones(50, 1, dtype=torch.float64))


def test_state_is_all_of_it(generator: torch.Generator) -> None:
    one, other = _filled([0.0, 1.0, 2.0]), SampleBuffer(3, (1,), torch.float64, CPU)
    one.add(torch.full((1, 1), 9.0, dtype=torch.float64), torch.zeros(1))
    other.load_state_dict(one.state_dict())
    for buffer in (one, other):
        buffer.add(torch.full((1, 1), 7.0, dtype=torch.float64), torch.zeros(1))
    assert torch.equal(one.x, other.x)
    assert torch.equal(one.log_w, other.log_w)
