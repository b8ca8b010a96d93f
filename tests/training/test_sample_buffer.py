"""The ring of samples: what it holds, and how it is drawn from."""

import math

import pytest
import torch
from gaussian import GaussianAction, forward_kl_gradient, gaussian_flow
from torch import Tensor

from lattice_flows.flows import Flow
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


def _ratio(buffer: SampleBuffer, flow: Flow, action: GaussianAction, generator: torch.Generator) -> float:
    """The gradient from a full buffer, of which 30,000 are drawn, along the exact one and relative to it."""
    for _ in range(100):
        buffer.advance(flow, action, 4096, generator, torch.float64)
        size = len(buffer.x)
        buffer.look(last=False)
        if buffer.n_added >= size == len(buffer.x):
            break
    flow.zero_grad()
    flow.log_prob(buffer.draw(30_000, generator)).mean().neg().backward()
    found = torch.cat([weight.grad for weight in flow.parameters()])
    exact = forward_kl_gradient(flow, action)
    return float(found @ exact / (exact @ exact))


def test_the_ring_grows_until_the_gradient_is_within_ten_per_cent(generator: torch.Generator) -> None:
    """log w is a normal deviate of variance 5.1, so the ESS is 0.006. A ring of 4096 samples is not enough."""
    flow, action = gaussian_flow([0.0] * 4, [0.0] * 4), GaussianAction((1.13,) * 4, (1.0,) * 4)

    def ratios(most: int) -> Tensor:
        found = []
        for _ in range(16):
            buffer = SampleBuffer(4096, (4,), torch.float64, CPU)
            buffer.most = most
            found.append(_ratio(buffer, flow, action, generator))
        return torch.tensor(found)

    assert ratios(2**22).mean() > 0.9
    fixed = ratios(4096)
    assert fixed.mean() + 4.5 * fixed.std() / 4.0 < 0.9


def test_a_ring_that_is_too_small_is_told_once(generator: torch.Generator, caplog: pytest.LogCaptureFixture) -> None:
    """While it grows only at the end of the training, otherwise at once; one that truncates little never."""
    heavy = [math.log(901.0), *[0.0] * 99]  # 1/2 of the weight, of which truncation leaves 100
    buffer = _filled(heavy)
    buffer.look(last=False)
    assert not caplog.messages
    for last in (True, True):
        buffer.look(last)
    (told,) = caplog.messages
    assert told.startswith("self_normalised: 80 % of the weight in the buffer of 200 samples is truncated")
    fixed = _filled(heavy)
    fixed.most = 100
    for _ in range(2):
        fixed.look(last=False)
    assert len(caplog.messages) == 2
    assert caplog.messages[1].endswith("or raise training.buffer_size")
    _filled([0.0] * 100).look(last=True)
    assert len(caplog.messages) == 2


def test_a_grown_ring_forgets_the_oldest_first() -> None:
    buffer = SampleBuffer(4, (1,), torch.float64, CPU)
    for first, n in ((0.0, 3), (3.0, 3)):
        buffer.add(first + torch.arange(n, dtype=torch.float64)[:, None], torch.zeros(n))
    buffer.look(last=False)
    assert len(buffer.x) == 8
    buffer.look(last=False)  # not full again
    buffer.add(torch.arange(6.0, 12.0, dtype=torch.float64)[:, None], torch.zeros(6))
    assert sorted(buffer.x[:, 0].tolist()) == [4, 5, 6, 7, 8, 9, 10, 11]


def test_a_ring_of_older_code_stays_as_it_is() -> None:
    state = _filled([0.0, 1.0, 2.0]).state_dict()
    buffer = SampleBuffer(3, (1,), torch.float64, CPU)
    buffer.load_state_dict({name: state[name] for name in ("x", "log_w", "place")})
    buffer.look(last=False)
    assert len(buffer.x) == 3
    buffer.load_state_dict(state)
    buffer.look(last=False)
    assert len(buffer.x) == 6
