"""Trainings that start from the weights of another."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lattice_flows.flows import Flow, HaarU1, Transform, initialise, plaquette_coupling
from lattice_flows.theories import WilsonU1
from lattice_flows.training import (
    CHECKPOINT_NAME,
    CheckpointError,
    TrainingSettings,
    load_flow_weights,
    read_checkpoint,
    train,
)

OPTIONS = {"n_layers": 2, "n_components": 2, "hidden": (4,)}


def _header(beta: float = 1.0, shape: int = 4, **flow: Any) -> dict[str, Any]:
    theory = {"name": "u1", "beta": beta, "shape": [shape, shape]}
    return {"theory": theory, "flow": {"name": "plaquette_coupling", **flow}}


def _flow(shape: int, **options: Any) -> Flow:
    flow = plaquette_coupling((shape, shape), **{**OPTIONS, **options})
    initialise(flow, torch.Generator().manual_seed(shape))
    return flow


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("parent")
    train(_flow(4), WilsonU1(1.0), TrainingSettings(max_steps=20, batch_size=8), folder, seed=1, header=_header())
    return folder / CHECKPOINT_NAME


def _settings(parent: Path, **changes: Any) -> TrainingSettings:
    return TrainingSettings(max_steps=0, batch_size=8, init_from=str(parent), **changes)


def test_a_larger_lattice_at_another_coupling_starts_from_the_averaged_weights(parent: Path, tmp_path: Path) -> None:
    flow, settings = _flow(8), _settings(parent)
    train(flow, WilsonU1(2.0), settings, tmp_path, seed=1, header=_header(2.0, 8))
    inherited = load_flow_weights(parent)
    for name, weight in flow.named_parameters():
        torch.testing.assert_close(weight.detach(), inherited.weights[name], atol=0, rtol=0)
    assert read_checkpoint(tmp_path / CHECKPOINT_NAME).parent == inherited.sha256
    assert read_checkpoint(parent).parent == ""


def test_weights_as_they_are_may_be_trained_later(parent: Path, tmp_path: Path) -> None:
    """From none to five steps, to the bits of five steps at once."""
    flows = []
    for name, lengths in (("longer", (0, 5)), ("at once", (5,))):
        for n in lengths:
            flow, settings = _flow(8), TrainingSettings(max_steps=n, batch_size=8, init_from=str(parent))
            ended = train(flow, WilsonU1(2.0), settings, tmp_path / name, seed=1, header=_header(2.0, 8))
            assert (ended.reason, ended.step) == ("max_steps", n)
        flows.append(flow)
    for one, other in zip(flows[0].parameters(), flows[1].parameters()):
        assert torch.equal(one, other)


def test_the_parent_is_needed_only_once(parent: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pt"
    copy.write_bytes(parent.read_bytes())
    settings = TrainingSettings(max_steps=5, batch_size=8, init_from=str(copy))
    arguments: dict[str, Any] = {"seed": 1, "header": _header(2.0, 8)}
    train(_flow(8), WilsonU1(2.0), settings, tmp_path, **arguments, should_stop=lambda: True)
    copy.unlink()
    assert train(_flow(8), WilsonU1(2.0), settings, tmp_path, **arguments).step == 5


def test_another_theory_or_flow_is_refused(parent: Path, tmp_path: Path) -> None:
    other = {"theory": {"name": "u1_improved"}, "flow": _header()["flow"]}
    for header, message in [(other, "of the theory u1, this is u1_improved"), (_header(n_layers=3), "of another flow")]:
        with pytest.raises(CheckpointError, match=message) as caught:
            train(_flow(4), WilsonU1(1.0), _settings(parent), tmp_path, seed=1, header=header)
        assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_refused(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has the shape \[.*\], not \["):
        train(_flow(4, hidden=(5,)), WilsonU1(1.0), _settings(parent), tmp_path, seed=1, header=_header())
    with pytest.raises(CheckpointError, match="no weight in common"):
        train(_Tree.flow(["2x2"]), WilsonU1(1.0), _settings(parent), tmp_path, seed=1, header=_header())
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        train(_flow(4), WilsonU1(1.0), _settings(tmp_path / "none.pt"), tmp_path, seed=1, header=_header())


class _Tree(Transform):
    """Turns all links by an angle per level: a transform that has more parameters on larger lattices."""

    def __init__(self, levels: list[str]) -> None:
        super().__init__()
        self.angles = nn.ParameterDict({level: torch.zeros(()) for level in levels})

    @classmethod
    def flow(cls, levels: list[str]) -> Flow:
        return Flow(HaarU1((2, 4, 4)), cls(levels))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z + torch.stack(list(self.angles.values())).sum(), z.new_zeros(len(z))

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x - torch.stack(list(self.angles.values())).sum(), x.new_zeros(len(x))


def test_what_a_larger_lattice_has_more_of_keeps_its_own_weights(tmp_path: Path) -> None:
    small, large = _Tree.flow(["1x1", "1x2"]), _Tree.flow(["1x1", "1x2", "2x2"])
    with torch.no_grad():
        for value, flow in ((1.0, small), (2.0, large)):
            for weight in flow.parameters():
                weight.fill_(value)
    still = TrainingSettings(max_steps=1, batch_size=8, learning_rate=1e-12, objective="reverse_kl")
    train(small, WilsonU1(1.0), still, tmp_path / "small", seed=1, header=_header())
    settings = _settings(tmp_path / "small" / CHECKPOINT_NAME, objective="reverse_kl")
    train(large, WilsonU1(1.0), settings, tmp_path / "large", seed=1, header=_header(shape=8))
    values = {name.rpartition(".")[2]: round(float(weight.detach()), 6) for name, weight in large.named_parameters()}
    assert values == {"1x1": 1.0, "1x2": 1.0, "2x2": 2.0}
