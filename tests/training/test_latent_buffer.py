"""Chains in latent space that move what a flow learns from."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from gaussian import GaussianAction, Normal, gaussian_flow
from torch import Tensor

from lattice_flows.errors import InputError
from lattice_flows.flows import Flow, GaussianPrior, Prior, Pullback, Transform, vector_coupling
from lattice_flows.flows.pullback import Image
from lattice_flows.theories import DoubleWell
from lattice_flows.training import CHECKPOINT_NAME, Drawn, Ranks, TrainingSettings, read_checkpoint, train
from lattice_flows.training.latent_buffer import LatentBuffer

pytestmark = pytest.mark.quick

N = 4000
LEFT = 0.155693  # the probability of x < 0
ACTION = DoubleWell()


class Sinh(Transform):
    """x = 0.8 sinh(1.1 z), whose Jacobian varies."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return 0.8 * torch.sinh(1.1 * z), torch.log(0.88 * torch.cosh(1.1 * z)).sum(1)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.asinh(x / 0.8) / 1.1
        return z, -torch.log(0.88 * torch.cosh(1.1 * z)).sum(1)


def exact_draws(n: int, generator: torch.Generator) -> Tensor:
    """Of the double well, from the inverse of the distribution function of x on a fine grid."""
    grid = np.linspace(-4.0, 4.0, 400_001)
    cumulative = np.cumsum(np.exp(-(grid**4) + 6.0 * grid**2 + 0.5 * grid))
    u = torch.rand(n, generator=generator, dtype=torch.float64).numpy()
    x = np.interp(u, cumulative / cumulative[-1], grid)
    return torch.stack([torch.from_numpy(x), torch.randn(n, generator=generator, dtype=torch.float64)], 1)


def left_well(n: int, generator: torch.Generator) -> Tensor:
    return torch.tensor([-1.7, 0.0], dtype=torch.float64) + 0.1 * torch.randn(
        (n, 2), generator=generator, dtype=torch.float64
    )


def largest_pull(x: Tensor) -> float:
    """Of means over independent configurations of the double well."""
    exact = ACTION.closed_forms(())
    series = {"left": (x[:, 0] < 0.0).double(), "x": x[:, 0], "y": x[:, 1], "y^2": x[:, 1] ** 2}
    series["u"] = ACTION(x)
    right = {"left": LEFT, "x": exact.mean_x, "y": 0.0, "y^2": 1.0, "u": exact.potential}
    pulls = [(series[key].mean() - right[key]) / (series[key].std() / math.sqrt(len(x))) for key in right]
    return float(torch.stack(pulls).abs().max())


def moved(data, prior: Prior, n_updates: int, generator: torch.Generator) -> Tensor:
    buffer = LatentBuffer(Drawn(data), N, 2, 1.5)
    for _ in range(n_updates):
        buffer.advance(Flow(prior, Sinh()), ACTION, N, generator, torch.float32)
    return buffer.draw(N, generator) if n_updates == 0 else buffer.state_dict()["x"]


@pytest.mark.parametrize("prior", [GaussianPrior((2,), 1.3), Normal(2)], ids=["oscillator", "random walk"])
def test_exact_draws_stay_exact(prior: Prior, generator: torch.Generator) -> None:
    assert largest_pull(moved(exact_draws, prior, 60, generator)) < 4.5


def test_a_missing_jacobian_is_seen(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(self: Pullback, z: Tensor) -> Image:
        x, _ = self.transform.forward(z)
        return Image(self.action(x), x)

    monkeypatch.setattr(Pullback, "image", without)
    assert largest_pull(moved(exact_draws, GaussianPrior((2,), 1.3), 60, generator)) > 6


def test_a_missing_kinetic_energy_is_seen(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    from lattice_flows.lattice.spaces.harmonic import Harmonic

    monkeypatch.setattr(Harmonic, "kinetic", lambda self, p: torch.zeros(len(p), dtype=torch.float64))
    assert largest_pull(moved(exact_draws, GaussianPrior((2,), 1.3), 60, generator)) > 6


@pytest.mark.parametrize("prior", [GaussianPrior((2,), 1.3), Normal(2)], ids=["oscillator", "random walk"])
def test_the_other_well_gets_its_share(prior: Prior, generator: torch.Generator) -> None:
    assert largest_pull(moved(left_well, prior, 0, generator)) > 20
    assert largest_pull(moved(left_well, prior, 400, generator)) < 4.5


def test_ranks_share_the_moves(generator: torch.Generator) -> None:
    """Each moves its rows, by the same random numbers as one alone."""

    class Unsummed(Ranks):
        def gathered(self, own: Tensor, n: int) -> Tensor:
            whole = torch.zeros((n, *own.shape[1:]), dtype=torch.float64)
            whole[self.rows(n)] = own
            return whole

    state = generator.get_state()

    def after(ranks: Ranks) -> Tensor:
        generator.set_state(state)
        buffer = LatentBuffer(Drawn(left_well), 5, 3, 1.5, ranks)
        buffer.advance(Flow(GaussianPrior((2,), 1.3), Sinh()), ACTION, 5, generator, torch.float64)
        return torch.cat([buffer.state_dict()["x"], buffer.draw(1, generator)])[:5]

    alone = after(Ranks())
    for size in (2, 7):  # some have no row
        torch.testing.assert_close(sum(after(Unsummed(rank, size)) for rank in range(size)), alone)


def test_only_a_batch_moves(generator: torch.Generator) -> None:
    buffer = LatentBuffer(Drawn(exact_draws), 1000, 8, 1.5)
    buffer.draw(1, generator)
    before = buffer.state_dict()["x"].clone()
    buffer.advance(Flow(GaussianPrior((2,), 1.3), Sinh()), ACTION, 100, generator, torch.float64)
    n_moved = int((buffer.state_dict()["x"] != before).any(1).sum())
    assert 50 < n_moved <= 100


def test_the_generator_learns_both_wells_from_one(tmp_path: Path) -> None:
    """Data of one well only: without moves a flow by forward KL stays there."""
    torch.set_num_threads(1)

    def left_of_samples(**keys: float) -> tuple[float, float]:
        settings = TrainingSettings(
            objective="mixture", data="direct", max_steps=100, batch_size=128, learning_rate=0.01, buffer_size=512,
            mixture_weights=(0.1, 1.0), mixture_reverse="reverse_kl", monitor_every=100, **keys,
        )  # fmt: skip
        flow = vector_coupling((), ACTION, n_layers=2, hidden=(16,))
        folder = tmp_path / str(len(keys))
        train(flow, ACTION, settings, folder, seed=1, header={}, data=Drawn(left_well))
        x = read_checkpoint(folder / CHECKPOINT_NAME).objective.get("x")
        return 1.0 if x is None else float((x[:, 0] < 0).double().mean()), float(
            (flow.sample(2000, torch.Generator().manual_seed(2)).x[:, 0] < 0).double().mean()
        )

    still, moving = left_of_samples(), left_of_samples(latent_moves=4)
    assert still[1] > 0.9
    assert moving[0] < 0.4
    assert moving[1] < 0.5


def test_what_makes_no_sense_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=r"must be positive and finite, got 0, 1 and 1\.5"):
        LatentBuffer(Drawn(exact_draws), 0, 1, 1.5)
    with pytest.raises(ValueError, match="needs the objective forward_kl or mixture, got 'path_gradient'"):
        TrainingSettings(latent_moves=2)
    with pytest.raises(ValueError, match="unless latent_moves moves them"):
        TrainingSettings(objective="mixture", data="direct", anneal=0.1)
    assert TrainingSettings(objective="mixture", data="direct", anneal=0.1, latent_moves=1).anneal == 0.1


def test_a_flow_without_an_inverse_is_refused(generator: torch.Generator) -> None:
    from lattice_flows.card.card import parse_card
    from lattice_flows.flows.symmetrised import Group, JointFlow, sign

    text = """
[theory]
name = "phi4"
shape = [4, 4]
m2 = -4.0
lam = 8.0
[flow]
name = "symmetrised"
symmetries = ["sign"]
transforms = ["elementwise"]
[training]
objective = "forward_kl"
data = "chain.h5"
latent_moves = 2
"""
    with pytest.raises(InputError, match="latent_moves needs the inverse of the flow, which symmetrised does not have"):
        parse_card(text)
    moved_at_random = JointFlow(Flow(GaussianPrior((2,), 1.3), Sinh()), Group([sign()]))
    buffer = LatentBuffer(Drawn(exact_draws), 10, 1, 1.5)
    with pytest.raises(ValueError, match="need a flow with an inverse, not JointFlow"):
        buffer.advance(moved_at_random, ACTION, 10, generator, torch.float64)


def test_a_changed_key_is_told_and_not_passed_over(tmp_path: Path) -> None:
    """A checkpoint that lacks the key means its default, so that another value is another training."""
    from lattice_flows.training import CheckpointError

    action = GaussianAction((0.6,), (0.75,))
    settings = {"objective": "forward_kl", "data": "direct", "max_steps": 4, "monitor_every": 2, "batch_size": 8}

    def run(**keys: int) -> None:
        given = TrainingSettings(**{**settings, **keys})
        train(gaussian_flow([0.0], [0.0]), action, given, tmp_path, seed=1, header={}, data=Drawn(action.draw))

    run()
    assert "latent_moves" not in read_checkpoint(tmp_path / CHECKPOINT_NAME).settings
    with pytest.raises(CheckpointError, match="latent_moves"):
        run(latent_moves=2)


def test_the_target_follows_an_annealed_action(generator: torch.Generator) -> None:
    """At a temperature of 2 the buffer has the moments of S / 2."""
    hot = ACTION.scaled(0.5)
    buffer = LatentBuffer(Drawn(exact_draws), N, 4, 1.5)
    for _ in range(40):
        buffer.advance(Flow(GaussianPrior((2,), 1.3), Sinh()), hot, N, generator, torch.float64)
    x = buffer.state_dict()["x"]
    pull = (x[:, 1].square().mean() - 2.0) / (x[:, 1].square().std() / math.sqrt(N))
    assert abs(float(pull)) < 4.5
