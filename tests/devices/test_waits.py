"""Nothing in a flow, an action or a loss waits for the device: tried on torch's meta device, which holds no numbers.

Index tensors that depend on the lattice alone are made at the first call and kept; the second call is watched.
"""

from collections.abc import Callable

import pytest
import torch
from cases import ON_DEVICES, ActionCase, WithoutKernels
from devices.registry import PAIR_NAMES, Pair, pair_named
from devices.watch import Watch
from torch import Tensor

from lattice_flows.flows import Pullback, Transform, forward_with_score, reduced, root
from lattice_flows.samplers.integrators import INTEGRATORS, integrate
from lattice_flows.theories import Action, WilsonU1
from lattice_flows.training import (
    Drawn,
    ForwardKL,
    ImportanceWeighted,
    LogVariance,
    Objective,
    path_gradient,
    reinforce,
    reverse_kl,
)

FLOWS = pytest.mark.parametrize("name", PAIR_NAMES)
N = 4
NO_DATA = Drawn(lambda n, generator: torch.empty(n))


@pytest.fixture(autouse=True)
def _few_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The root of the projection's inverse is sought in steps that are all alike."""
    monkeypatch.setattr(root, "_UNSEEN", 2)


def watched(function: Callable[[], object]) -> list[str]:
    """What the second call of `function` waits for."""
    function()
    with Watch("meta") as watch:
        function()
    return watch.waits


def _there(name: str) -> Pair:
    pair = pair_named(name).one_layer()
    pair.flow.to("meta")
    return pair


@FLOWS
@pytest.mark.parametrize("direction", ["forward", "inverse", "score"])
def test_maps_do_not_wait(name: str, direction: str) -> None:
    pair, dtype = _there(name), torch.float32
    transform = pair.flow.transform

    def run() -> None:
        z = pair.field(N, "meta", dtype).requires_grad_(True)
        if direction == "score":
            x, log_det, score = forward_with_score(transform, z, torch.zeros_like(z))
            assert score.dtype == dtype
        else:
            x, log_det = getattr(transform, direction)(z)
        assert (x.dtype, log_det.dtype, x.device.type, log_det.device.type) == (dtype, dtype, "meta", "meta")
        assert (x.shape, log_det.shape) == (z.shape, (N,))
        (x.sum() + log_det.sum()).backward()

    assert watched(run) == []


@FLOWS
@pytest.mark.parametrize(
    "objective",
    [reverse_kl, path_gradient, reinforce, ImportanceWeighted(3), ForwardKL(NO_DATA), LogVariance(NO_DATA)],
    ids=["reverse_kl", "path_gradient", "reinforce", "dreg", "forward_kl", "log_variance"],
)
def test_losses_do_not_wait(name: str, objective: Objective) -> None:
    """The links of a region tree, and its plaquettes alone, where an objective takes these."""
    pair = _there(name)
    shape = (N, *reduced(pair.flow, pair.action).flow.prior.shape)
    if isinstance(objective, ImportanceWeighted):
        shape = (N, 3, *shape[1:])
    elif objective.sources:
        shape = (N, *pair.flow.prior.shape)

    def run() -> None:
        batch = [torch.empty(shape, device="meta")]
        if isinstance(objective, LogVariance):
            batch += [torch.empty(shape, device="meta"), torch.empty(N, dtype=torch.bool, device="meta")]
        loss, log_w = objective.loss(pair.flow, pair.action, tuple(batch))
        assert (loss.device.type, log_w.shape) == ("meta", (N,))
        if list(pair.flow.parameters()):
            loss.backward()

    assert watched(run) == []


@pytest.mark.parametrize("case", ON_DEVICES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_actions_do_not_wait(case: ActionCase, dtype: torch.dtype) -> None:
    x = torch.empty(N, *case.event, dtype=dtype, device="meta")

    def run() -> None:
        assert case.action(x).dtype == torch.float64
        for force in (case.action.force(x), Action.force(case.action, x)):
            assert (force.dtype, force.shape, force.device.type) == (dtype, x.shape, "meta")
        case.action.space.wrap(x)

    assert watched(run) == []


@FLOWS
def test_molecular_dynamics_do_not_wait(name: str) -> None:
    pair = _there(name)
    pair.flow.requires_grad_(False)
    pullback = Pullback(pair.action, pair.flow.transform)
    z = pair.field(N, "meta")
    assert watched(lambda: integrate(pullback, z, torch.empty_like(z), INTEGRATORS["leapfrog"], 0.1, 1)) == []


def test_molecular_dynamics_of_links_do_not_wait() -> None:
    x = torch.empty(N, 2, 4, 4, dtype=torch.float64, device="meta")
    assert watched(lambda: integrate(WithoutKernels(2.0), x, x, INTEGRATORS["leapfrog"], 0.1, 2)) == []


class Toy(Transform):
    """A shift of every site that is made in one of many wrong ways."""

    def __init__(self, wrong: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z + self.wrong(z), z.new_zeros(len(z))

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x - self.wrong(x), x.new_zeros(len(x))


class _Looks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, z: Tensor) -> Tensor:
        return z.clone()

    @staticmethod
    def backward(ctx: object, g: Tensor) -> Tensor:  # type: ignore[override]
        return g[:, torch.arange(g.shape[1])]


RIGHT = {
    "numbers of Python": lambda z: 0.5 * z + torch.where(z > 0, 0.5, -0.5),
    "an index made there": lambda z: z[:, torch.arange(z.shape[1], device=z.device)] + z[:, :1],
    "a number of the host in arithmetic": lambda z: z * torch.full((), 0.5),
}
WRONG = {
    "a look": lambda z: z * z.sum().item(),
    "a branch": lambda z: z if (z > 0).all() else -z,
    "a mask": lambda z: z.index_put((z > 0,), z.new_zeros(())),
    "an index made on the host": lambda z: z[:, torch.arange(z.shape[1])],
    "an index that comes from the host": lambda z: z[:, torch.arange(z.shape[1]).to(z.device)],
    "a list as an index": lambda z: z[:, list(range(z.shape[1]))],
    "a matrix made on the host": lambda z: z @ torch.ones(z.shape[-1], z.shape[-1], dtype=z.dtype),
    "a gather by the host": lambda z: z.gather(1, torch.zeros(z.shape, dtype=torch.int64)),
    "a number that torch.tensor makes": lambda z: z * torch.tensor(0.5, device=z.device),
    "a choice that copies a number": lambda z: torch.where(z > 0, z, torch.full((), 0.5)),
    "a copy to the host": lambda z: z.cpu().to(z.device),
    "a backward that indexes by the host": _Looks.apply,
}


def _steps_of(toy: Toy) -> list[str]:
    def run() -> None:
        z = torch.empty(N, 4, 4, device="meta", requires_grad=True)
        toy.forward(z)[0].sum().backward()

    return watched(run)


@pytest.mark.parametrize("right", RIGHT)
def test_what_does_not_wait_passes(right: str) -> None:
    assert _steps_of(Toy(RIGHT[right])) == []


@pytest.mark.parametrize("wrong", WRONG)
def test_each_wrong_way_is_caught(wrong: str) -> None:
    """By the meta device itself, or by what is watched."""
    try:
        found = _steps_of(Toy(WRONG[wrong]))
    except (RuntimeError, NotImplementedError) as error:
        found = [str(error)] if "meta" in str(error) else []
    assert found != []


def test_an_action_that_looks_is_caught() -> None:
    class Looking(WilsonU1):
        def __call__(self, x: Tensor) -> Tensor:
            return super().__call__(x) + x[:, 0, torch.arange(x.shape[2]), 0].sum(1)

    x = torch.empty(N, 2, 4, 4, device="meta")
    assert watched(lambda: Looking(1.0)(x))
    assert not watched(lambda: WilsonU1(1.0)(x))
