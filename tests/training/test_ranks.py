"""Shares of a batch: together the processes do what one of them would."""

from dataclasses import replace

import pytest
import torch
from cases import projection_flow
from torch import Tensor

from lattice_flows.flows import Flow, checkerboard_coupling
from lattice_flows.production.training_data import DirectData
from lattice_flows.theories import Action, Phi4, WilsonU1
from lattice_flows.training import (
    LaunchError,
    LogVariance,
    Ranks,
    TooManyRanks,
    TrainingSettings,
    evaluate,
    evaluate_on,
    launched_ranks,
    train,
)
from lattice_flows.training.catalogue import build_objective
from lattice_flows.training.optimise import Optimiser

ACTION = WilsonU1(1.0)
LEARNS_FROM_DATA = ("forward_kl", "mixture")
SAME_AT_ANY_SHARE = ("reverse_kl", "path_gradient", "dreg", *LEARNS_FROM_DATA)


class Unsummed(Ranks):
    """A process that keeps its part of the sum, for the test to add."""

    def sum_gradients(self, parameters: list[torch.nn.Parameter], loss: Tensor) -> Tensor:
        return loss


def _settings(objective: str, micro_batch: int | None = None) -> TrainingSettings:
    data = "direct" if objective in (*LEARNS_FROM_DATA, "log_variance") else None
    return TrainingSettings(objective=objective, data=data, batch_size=13, micro_batch=micro_batch, group_size=3)


def _gradient(
    flow: Flow, settings: TrainingSettings, ranks: Ranks, seed: int, action: Action = ACTION, **sizes: int
) -> Tensor:
    """A process's loss and gradient in one row."""
    direct = ACTION.direct_sampler()
    assert direct is not None
    data = DirectData(direct, flow.prior.shape)
    objective = build_objective(settings, flow, data, torch.float64, torch.device("cpu"), ranks)
    flow.zero_grad()
    optimiser = Optimiser(flow, settings, objective, ranks, **sizes)
    loss = optimiser._gradient(action, 13, torch.Generator().manual_seed(seed), torch.float64)
    gradients = [weight.grad.flatten() for weight in flow.parameters() if weight.grad is not None]
    return torch.cat([loss.reshape(1), *gradients])


def _distance(one: Tensor, other: Tensor) -> float:
    """Of gradients, relative to their size: rounding is that of the terms, which cancel in single entries."""
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("size", [1, 2, 5, 13])
@pytest.mark.parametrize("n", [13, 64])
def test_shares_make_the_whole(size: int, n: int) -> None:
    rows = [i for rank in range(size) for i in range(n)[Ranks(rank, size).rows(n)]]
    assert rows == list(range(n))
    shares = [len(range(n)[Ranks(rank, size).rows(n)]) for rank in range(size)]
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize("objective", SAME_AT_ANY_SHARE)
def test_processes_sum_to_the_gradient_of_one(objective: str, seed: int) -> None:
    flow, settings = projection_flow((4, 4)).double(), _settings(objective)
    whole = _gradient(flow, settings, Ranks(), seed)
    shares = [_gradient(flow, settings, Unsummed(rank, 3), seed) for rank in range(3)]
    assert _distance(sum(shares), whole) < 1e-10
    # A process with a random stream of its own, or with equal weight for unequal shares, is seen.
    astray = [*shares[:2], _gradient(flow, settings, Unsummed(2, 3), seed + 1)]
    equal = [13 / 3 * share / n for share, n in zip(shares, (4, 4, 5))]
    for wrong in (astray, equal):
        assert _distance(sum(wrong), whole) > 1e-3


@pytest.mark.parametrize("objective", ["path_gradient", "dreg"])
def test_a_batch_that_is_drawn_piece_by_piece_is_shared_alike(objective: str, seed: int) -> None:
    flow, settings = projection_flow((4, 4)).double(), _settings(objective)
    at_once = _gradient(flow, settings, Ranks(), seed)
    few = 3 * 32  # three configurations
    whole = _gradient(flow, settings, Ranks(), seed, numbers_at_once=few)
    shares = [_gradient(flow, settings, Unsummed(rank, 3), seed, numbers_at_once=few) for rank in range(3)]
    assert _distance(sum(shares), whole) < 1e-10
    assert _distance(whole, at_once) < 1e-10  # on a processor uniform deviates come in one row


@pytest.mark.parametrize("objective", SAME_AT_ANY_SHARE)
@pytest.mark.parametrize("micro_batch", [1, 4, 13, 100])
def test_micro_batches_add_up(objective: str, micro_batch: int, seed: int) -> None:
    flow = projection_flow((4, 4)).double()
    whole, parts = (_gradient(flow, _settings(objective, m), Ranks(), seed) for m in (None, micro_batch))
    assert _distance(parts, whole) < 1e-10


@pytest.mark.parametrize("objective", ["reverse_kl", "path_gradient", "dreg"])
def test_micro_batches_of_a_flow_whose_prior_is_learnt(objective: str, seed: int) -> None:
    action = Phi4(m2=-1.0, lam=2.0)
    flow = checkerboard_coupling((4, 4), action).double()
    assert any(True for _ in flow.prior.parameters())
    whole, parts = (_gradient(flow, _settings(objective, m), Ranks(), seed, action=action) for m in (None, 4))
    assert _distance(parts, whole) < 1e-10


@pytest.mark.parametrize("objective", ["reinforce", "self_normalised"])
def test_micro_batches_of_the_others_have_the_loss_of_the_whole(objective: str, seed: int) -> None:
    """Baselines are of what is computed at once, so that of gradients only the mean is the same."""
    flow = projection_flow((4, 4)).double()
    whole, parts = (_gradient(flow, _settings(objective, m), Ranks(), seed) for m in (None, 4))
    torch.testing.assert_close(parts[0], whole[0], rtol=1e-10, atol=0.0)
    assert _distance(parts, whole) < 1.0


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_log_variance_in_shares_is_the_mean_of_theirs(micro_batch: int | None, seed: int) -> None:
    """Weighted by their rows: each part has the variance of its own."""
    flow, settings = projection_flow((4, 4)).double(), _settings("log_variance", micro_batch)
    shares = [_gradient(flow, settings, Unsummed(rank, 3), seed) for rank in range(3)]
    direct = ACTION.direct_sampler()
    assert direct is not None
    objective = LogVariance(DirectData(direct, flow.prior.shape))
    batch = objective.draw(flow, ACTION, 13, torch.Generator().manual_seed(seed))
    _, log_w = objective.loss(flow, ACTION, batch)
    sizes = (4, 4, 5) if micro_batch is None else (4, 4, 3, 2)
    expected = sum(0.5 * part.var() * len(part) / 13 for part in log_w.split(sizes))
    torch.testing.assert_close(sum(share[0] for share in shares), expected, rtol=1e-10, atol=0.0)


def test_first_loss_is_that_of_the_whole_batch(seed: int) -> None:
    flow, found = projection_flow((4, 4)).double(), []
    for micro_batch in (None, 5):
        settings = _settings("path_gradient", micro_batch)
        objective = build_objective(settings, flow, None, torch.float64, torch.device("cpu"))
        optimiser = Optimiser(flow, settings, objective, Ranks())
        found.append(optimiser.first_loss(ACTION, 64, torch.Generator().manual_seed(seed), torch.float64))
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_evaluation_in_shares_has_the_samples_of_the_whole(seed: int) -> None:
    class Separate(Ranks):
        def gathered(self, own: Tensor, n: int) -> Tensor:
            return own

    flow = projection_flow((4, 4)).double()
    whole = evaluate(flow, ACTION, 10, torch.Generator().manual_seed(seed))
    shares = [evaluate(flow, ACTION, 10, torch.Generator().manual_seed(seed), ranks=Separate(k, 2)) for k in (0, 1)]
    torch.testing.assert_close(
        torch.cat(list(map(torch.from_numpy, shares))), torch.from_numpy(whole), rtol=1e-12, atol=0
    )


def test_reinforce_needs_two_samples_of_every_part() -> None:
    with pytest.raises(ValueError, match="micro_batch must be at least 3"):
        _settings("reinforce", 2)
    assert all(n // -(-n // m) >= 2 for m in range(3, 20) for n in range(2, 60))


def test_a_batch_too_small_for_so_many(tmp_path) -> None:
    settings = replace(_settings("path_gradient"), batch_size=3)
    with pytest.raises(TooManyRanks, match="at least 4 for 4 processes, got 3"):
        train(projection_flow((4, 4)), ACTION, settings, tmp_path, seed=1, header={}, ranks=Ranks(0, 4))


@pytest.mark.parametrize(("rank", "size"), [("x", "2"), ("2", "2"), ("-1", "2"), ("0", "")])
def test_an_environment_that_torchrun_did_not_make(rank: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(LaunchError, match="torchrun"):
        launched_ranks()


@pytest.mark.parametrize("n", [1, 257])
def test_more_processes_than_rows(n: int, seed: int) -> None:
    """The last chunk of an evaluation may hold fewer rows than there are processes."""

    class Separate(Ranks):
        def gathered(self, own: Tensor, n: int) -> Tensor:
            return own

    flow = projection_flow((4, 4)).double()
    whole = evaluate(flow, ACTION, n, torch.Generator().manual_seed(seed))
    shares = [evaluate(flow, ACTION, n, torch.Generator().manual_seed(seed), ranks=Separate(k, 3)) for k in range(3)]
    assert sum(len(share) for share in shares) == len(whole)
    data = flow.prior.sample(n, torch.Generator().manual_seed(seed))
    shares = [evaluate_on(flow, ACTION, data, torch.Generator(), ranks=Separate(k, 3)) for k in range(3)]
    assert sum(len(share) for share in shares) == n
