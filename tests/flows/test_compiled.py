"""torch.compile changes nothing but rounding. A backend that runs the traced operations stands for the slow C++ one."""

import copy
import shutil
from collections.abc import Callable, Iterator

import pytest
import torch
from cases import exact_tree, hybrid_flow, mlp_tree, projection_flow, spline_flow
from scalar_cases import affine_flow, density_flow
from scalar_cases import spline_flow as scalar_spline_flow
from torch import Tensor
from vector_cases import VECTOR_FLOWS

from lattice_flows.flows import Flow, compile_flow
from lattice_flows.flows.network_dtype import networks_in
from lattice_flows.theories import Action, ImprovedU1, Phi4, WilsonU1
from lattice_flows.training import path_gradient, reinforce
from lattice_flows.training.objectives import Objective

CASES = [
    pytest.param(projection_flow, WilsonU1(1.0), id="projection"),
    pytest.param(spline_flow, WilsonU1(1.0), id="spline"),
    pytest.param(hybrid_flow, ImprovedU1(1.5, 1.0 / 12.0), id="hybrid"),
    pytest.param(lambda shape: VECTOR_FLOWS[1].build(), VECTOR_FLOWS[1].action, id="vectors"),
    pytest.param(affine_flow, Phi4(-4.0, 8.0), id="scalar affine"),
    pytest.param(scalar_spline_flow, Phi4(-4.0, 8.0), id="scalar spline"),
    pytest.param(density_flow, Phi4(-4.0, 8.0), id="scalar logistic density"),
]
Build = Callable[[tuple[int, ...]], Flow]


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Recorder:
    """A backend that counts what is traced, and runs it; `factor` spoils its results."""

    def __init__(self, factor: float = 1.0) -> None:
        self.traced, self.factor = 0, factor

    def __call__(self, module: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., tuple[Tensor, ...]]:
        self.traced += 1
        return lambda *arguments: tuple(self.factor * result for result in module(*arguments))


def _loss_and_gradient(flow: Flow, action: Action, objective: Objective, seed: int) -> Tensor:
    batch = (flow.prior.sample(3, torch.Generator().manual_seed(seed)),)
    loss = objective.loss(flow, action, batch).loss
    gradients = torch.autograd.grad(loss, list(flow.parameters()))
    return torch.cat([loss.detach()[None], *(gradient.flatten() for gradient in gradients)])


def _assert_equal(flow: Flow, compiled: Flow, action: Action, objective: Objective, seed: int) -> None:
    expected = _loss_and_gradient(flow, action, objective, seed)
    assert expected.abs().max() > 0.1
    found = _loss_and_gradient(compiled, action, objective, seed)
    torch.testing.assert_close(found, expected, atol=1e-11 * float(expected.abs().max()), rtol=1e-10)


BOTH_WAYS = [
    *(pytest.param(*case.values, path_gradient, id=f"{case.id} forward") for case in CASES),
    *(pytest.param(*case.values, reinforce, id=f"{case.id} inverse") for case in CASES if case.id != "hybrid"),
]


@pytest.mark.parametrize(("build", "action", "objective"), BOTH_WAYS)
def test_compiled_couplings_give_the_same_numbers(
    build: Build, action: Action, objective: Objective, seed: int
) -> None:
    flow, recorder = build((4, 4)), Recorder()
    compiled = copy.deepcopy(flow)
    compile_flow(compiled, recorder)
    for one in (compiled, copy.deepcopy(compiled)):
        _assert_equal(flow, one, action, objective, seed)
    assert recorder.traced <= 2, "one compilation, and one for a first layer that nothing lies before, serve all layers"
    assert set(compiled.state_dict()) == set(flow.state_dict())
    assert [name for name, _ in compiled.named_parameters()] == [name for name, _ in flow.named_parameters()]


@pytest.mark.parametrize(("build", "action"), CASES)
def test_traced_gradients_are_the_same(build: Build, action: Action, seed: int) -> None:
    flow = build((4, 4))
    compiled = copy.deepcopy(flow)
    compile_flow(compiled, "aot_eager")
    _assert_equal(flow, compiled, action, path_gradient, seed)


def test_a_backend_that_changes_the_ninth_digit_is_caught(seed: int) -> None:
    flow = projection_flow((4, 4))
    compiled, recorder = copy.deepcopy(flow), Recorder(1.0 + 1e-9)
    compile_flow(compiled, recorder)
    with pytest.raises(AssertionError, match="not close"):
        _assert_equal(flow, compiled, WilsonU1(1.0), path_gradient, seed)
    assert recorder.traced > 0


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method.:DeprecationWarning")  # torch's own, on its first import
@pytest.mark.parametrize(("build", "action"), CASES[-2:-1])
def test_the_default_backend(build: Build, action: Action, seed: int, tmp_path, monkeypatch) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler on this machine: torch's default backend cannot be tried")
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    flow = build((4, 4))
    compiled = copy.deepcopy(flow)
    with config.patch(compile_threads=1):
        compile_flow(compiled)
        _assert_equal(flow, compiled, action, path_gradient, seed)
    assert any(tmp_path.rglob("*.cpp")), "something was compiled"


def test_validation_and_sampling_are_not_compiled(generator: torch.Generator) -> None:
    flow, recorder = projection_flow((4, 4)), Recorder()
    compile_flow(flow, recorder)
    with torch.no_grad():
        flow.log_prob(flow.sample(5, generator).x)
    assert recorder.traced == 0
    flow.sample(5, generator)
    assert recorder.traced > 0


def test_compiled_code_follows_the_precision_of_the_networks(seed: int) -> None:
    flow, recorder = projection_flow((4, 4)), Recorder()
    compiled = copy.deepcopy(flow)
    compile_flow(compiled, recorder)
    results = []
    for dtype in (None, torch.bfloat16, None):
        with networks_in(dtype):
            _assert_equal(flow, compiled, WilsonU1(1.0), path_gradient, seed)
            results.append(_loss_and_gradient(compiled, WilsonU1(1.0), path_gradient, seed))
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])


@pytest.mark.parametrize("build", [mlp_tree, exact_tree])
def test_a_flow_without_couplings_is_refused(build: Build) -> None:
    with pytest.raises(ValueError, match="no couplings") as caught:
        compile_flow(build((4, 4)))
    assert "\n" not in str(caught.value)


def test_a_machine_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler") as caught:
        compile_flow(projection_flow((4, 4)))
    assert "\n" not in str(caught.value)
