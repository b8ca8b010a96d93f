"""Flows moved by random symmetries: exact with either density, whatever the flow, and better with the average."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError
from lattice_flows.flows import FLOWS, AveragedFlow, Chain, Flow, HaarU1, JointFlow, SymmetrisedFlow
from lattice_flows.flows.symmetrised import Group, sign, translations
from lattice_flows.samplers import StochasticFlowPlan, TransformLayer
from lattice_flows.statistics import effective_sample_size, log_partition
from lattice_flows.theories import XY, DoubleWell, MuellerBrown, Phi4
from lattice_flows.training import TrainingSettings, evaluate, evaluate_on, path_gradient, reverse_kl, train

DENSITIES = pytest.mark.parametrize("density", ["joint", "average"])
FREE = Phi4(0.8, 0.0)
LOPSIDED = ({"name": "planar", "n_terms": 3}, "actnorm")


def lopsided(density, shape=(3, 2), size=0.1):
    """A flow without any symmetry, somewhat wider than the target, and moved by signs and translations."""
    plan = SymmetrisedFlow(
        shape, FREE, transforms=LOPSIDED, symmetries=("sign", "translations"), density=density, prior="free"
    )
    flow = plan.build().double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator))
        widened = flow.flow.transform.sequence()[1]
        widened.log_scale.fill_(1.5 * size)
        widened.shift.fill_(1.5 * size)
    return flow


@pytest.mark.quick
@pytest.mark.parametrize("sites", [(4,), (3, 2), (2, 3, 2)])
def test_a_group_holds_every_translation_and_sign_once(sites, generator):
    group = Group([sign(), translations(sites)])
    assert group.order == 2 * math.prod(sites)
    x = torch.randn(1, *sites, generator=generator, dtype=torch.float64)
    elements = torch.arange(group.order)
    images = group.moved(x.expand(group.order, *sites), elements)
    axes = tuple(range(len(sites)))
    wanted = [s * x[0].roll(step, axes) for step in itertools.product(*map(range, sites)) for s in (1, -1)]
    assert {tuple(one.flatten().tolist()) for one in images} == {tuple(one.flatten().tolist()) for one in wanted}
    torch.testing.assert_close(images[0], x[0])
    torch.testing.assert_close(group.moved_back(images, elements), x.expand_as(images))


@DENSITIES
def test_weights_have_the_mean_z_of_a_free_field(density, generator):
    """A density 4 % off is seen."""
    flow = lopsided(density)
    log_w = evaluate(flow, FREE, 20_000, generator, batch=2000)
    exact = FREE.closed_forms((3, 2)).log_z
    found = log_partition(log_w)
    assert abs(found.value - exact) < 4.5 * found.error
    assert 4.5 * found.error < 0.04
    x, log_q = flow.sample(5, generator)
    if isinstance(flow, AveragedFlow):
        torch.testing.assert_close(flow.log_prob(-x), log_q)
        torch.testing.assert_close(flow.log_prob(x.roll(1, 1)), log_q)


@DENSITIES
def test_a_density_that_forgets_the_group_is_not_that_of_the_samples(density, generator):
    """E[q_other / q] = 1 over samples tells the density of moved ones from that of the flow before they are moved."""
    flow = lopsided(density, size=0.2)
    with torch.no_grad():
        z, g = flow.latents(20_000, generator)
        x, log_q = flow.image(z, g)
        shift = 0.1 * torch.linspace(-1.0, 1.0, 6).view(3, 2).double()  # a fixed density of another shape
        other = torch.distributions.Normal(shift, 0.2).log_prob(x).sum((1, 2))
        forgetful = flow.flow.log_prob(x)
    for given, right in ((log_q, True), (forgetful, False)):
        ratio = torch.exp(other - given)
        error = float(ratio.std()) / math.sqrt(len(ratio))
        assert (abs(float(ratio.mean()) - 1.0) < 4.5 * error) == right


def test_the_average_has_the_larger_ess_and_the_mean_of_the_joint_weights(generator):
    flows = [lopsided(density, size=0.2) for density in ("joint", "average")]
    ess = [effective_sample_size(evaluate(flow, FREE, 10_000, generator, batch=2000)) for flow in flows]
    assert ess[1].value - ess[0].value > 5.0 * (ess[0].error + ess[1].error)
    joint, average = flows
    x, _ = average.sample(4, generator)
    each = torch.stack([joint.path_log_q(x, torch.full((4,), g)) for g in range(12)])
    torch.testing.assert_close(average.log_prob(x), torch.logsumexp(each, 0) - math.log(12))


@pytest.mark.quick
@DENSITIES
def test_a_path_back_has_the_density_of_the_path(density, generator):
    flow = lopsided(density)
    z, g = flow.latents(6, generator)
    x, log_q = flow.image(z, g)
    torch.testing.assert_close(flow.path_log_q(x, g), log_q)
    log_w = evaluate_on(flow, FREE, x.detach(), generator)
    assert np.isfinite(log_w).all()


@pytest.mark.quick
@DENSITIES
def test_path_gradient_is_that_of_the_total_derivative(density, generator):
    """In the mean over the samples; a gradient 15 % off is seen."""
    flow = lopsided(density, shape=(2, 2), size=0.2)
    gradients = {objective: [] for objective in (path_gradient, reverse_kl)}
    for objective, found in gradients.items():
        for _ in range(20):
            flow.zero_grad()
            objective(flow, FREE, 200, generator).loss.backward()
            found.append(torch.cat([weight.grad.flatten() for weight in flow.parameters()]))
    path, total = (torch.stack(found) for found in gradients.values())
    direction = total.mean(0) / total.mean(0).norm()
    path, total = path @ direction, total @ direction
    error = math.hypot(float(path.std()), float(total.std())) / math.sqrt(20)
    assert abs(float(path.mean() - total.mean())) < 4.5 * error
    assert 4.5 * error < 0.15 * float(total.mean())


@pytest.mark.quick
def test_angles_are_conjugated_and_wrapped(generator):
    flow = JointFlow(Flow(HaarU1((2, 2)), Chain()), Group([sign()]))
    z = torch.tensor([-math.pi, 1.0, 0.0, -2.0], dtype=torch.float64).view(1, 2, 2).expand(2, 2, 2)
    x, _ = flow.image(z, torch.tensor([0, 1]))
    expected = torch.tensor([-math.pi, -1.0, 0.0, 2.0], dtype=torch.float64).view(2, 2)
    torch.testing.assert_close(x, torch.stack([z[0], expected]))
    with pytest.raises(ValueError, match="sign is no symmetry"):
        SymmetrisedFlow((2, 2), XY(1.0), transforms=("actnorm",), symmetries=("sign",))


@pytest.mark.quick
def test_training_improves_it(tmp_path: Path, generator):
    flow = lopsided("joint", shape=(2, 2))
    before = effective_sample_size(evaluate(flow, FREE, 2000, generator)).value
    settings = TrainingSettings(max_steps=60, learning_rate=0.02, batch_size=64, monitor_samples=64)
    train(flow, FREE, settings, tmp_path, seed=1, header={})
    assert effective_sample_size(evaluate(flow, FREE, 2000, generator)).value > before + 0.05


CARD = """
[theory]
name = "phi4"
shape = [4, 4]
m2 = 1.0
lam = 1.0
[flow]
name = "symmetrised"
symmetries = ["sign", "translations"]
density = "{density}"
transforms = [{{name = "{name}"}}]
[training]
objective = "{objective}"
[[ensemble]]
name = "e"
sampler = "{sampler}"
"""


@pytest.mark.quick
@DENSITIES
def test_a_card_names_it(density):
    card = parse_card(CARD.format(density=density, name="planar", objective="path_gradient", sampler="flow_metropolis"))
    flow = card.flow.built_flow
    assert isinstance(flow, AveragedFlow if density == "average" else JointFlow)
    assert flow.group.order == 32


@pytest.mark.quick
@pytest.mark.parametrize(
    ("density", "name", "objective", "sampler", "told"),
    [
        ("joint", "planar", "path_gradient", "flow_hmc", "FlowHMC needs the inverse of the flow"),
        ("joint", "iaf", "path_gradient", "flow_samples", "needs the score of the flow"),
        ("joint", "iaf", "reverse_kl", "flow_metropolis", "FlowMetropolis needs the paths of the flow"),
        ("average", "iaf", "reverse_kl", "flow_samples", 'density = "average" needs the inverse of every transform'),
    ],
)
def test_what_it_does_not_offer_is_refused_where_the_card_is_read(density, name, objective, sampler, told):
    with pytest.raises(InputError, match=told) as caught:
        parse_card(CARD.format(density=density, name=name, objective=objective, sampler=sampler))
    assert "\\n" not in str(caught.value)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("shape", "action", "options", "message"),
    [
        ((4, 4), FREE, {"symmetries": ()}, "symmetries must be different ones of sign, conjugation, translations"),
        ((4, 4), FREE, {"symmetries": ("sign", "sign")}, "symmetries must be different ones"),
        ((4, 4), FREE, {"symmetries": ("parity",)}, "symmetries must be different ones"),
        ((4, 4), FREE, {"symmetries": ("conjugation",)}, "conjugation is no symmetry"),
        ((), DoubleWell(), {"symmetries": ("translations",)}, "translations is no symmetry of .* without a lattice"),
        ((), MuellerBrown(), {"symmetries": ("sign",)}, "sign is no symmetry"),
        (
            (),
            DoubleWell(),
            {"transforms": ("continuous",), "symmetries": ("sign",)},
            "takes no transforms that are integ",
        ),
        ((4, 4), FREE, {"density": "mean"}, 'density must be "average" or "joint"'),
    ],
)
def test_bad_values_are_refused_by_name(shape, action, options, message):
    with pytest.raises(ValueError, match=message):
        FLOWS["symmetrised"](shape, action, **{"transforms": ("actnorm",), "symmetries": ("sign",), **options})


@pytest.mark.quick
def test_it_is_no_layer_of_a_stochastic_flow():
    plan = TransformLayer(lambda action: SymmetrisedFlow((4, 4), action, transforms=LOPSIDED, symmetries=("sign",)))
    with pytest.raises(ValueError, match=r"^layers\[0\]: a flow moved by random symmetries is no transform"):
        StochasticFlowPlan((4, 4), FREE, layers=(plan,), initial={"m2": 1.0})
