"""One map of all plaquettes: its log det on the surface of the constraint, its score, and what it is good for."""

from pathlib import Path

import pytest
import torch
from cases import mapped

from lattice_flows.flows import PlaquetteMapFlow, forward_with_score, initialise, plaquette_map
from lattice_flows.flows.plaquette_map import transverse
from lattice_flows.lattice import CIRCLE, plaquette, reflect, topological_charge
from lattice_flows.samplers import HeatBath, MarkovLayer, StochasticFlowPlan, TransformLayer
from lattice_flows.statistics import effective_sample_size, log_partition
from lattice_flows.theories import WilsonU1
from lattice_flows.training import TrainingSettings, evaluate, train


def links(shape, n, generator):
    return 6.0 * torch.rand(n, 2, *shape, generator=generator, dtype=torch.float64) - 3.0


@pytest.mark.quick
@pytest.mark.parametrize("shape", [(4, 4), (3, 2), (2, 5)], ids=str)
def test_its_score_and_log_det_are_those_of_the_jacobian(shape, generator):
    """The score of any density of the links, gauge-invariant or not."""
    flow = mapped(shape).transform
    z = links(shape, 3, generator)
    jacobian = torch.autograd.functional.jacobian(lambda z: flow.forward(z)[0], z[:1]).reshape(z[0].numel(), -1)
    at = z[:1].clone().requires_grad_(True)
    log_det = flow.forward(at)[1]
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, log_det[0], atol=1e-10, rtol=0)
    score = torch.randn(z.shape, generator=generator, dtype=torch.float64)
    pushed = score[0].flatten() - torch.autograd.grad(log_det.sum(), at)[0].flatten()
    scored = forward_with_score(flow, z, score)
    torch.testing.assert_close(scored.score[0].flatten(), torch.linalg.solve(jacobian.T, pushed), atol=1e-8, rtol=0)
    torch.testing.assert_close(scored.x, flow.forward(z)[0])


@pytest.mark.quick
def test_it_keeps_the_sum_of_the_plaquettes_and_commutes_with_reflections(generator):
    flow = mapped((6, 4)).transform
    z = links((6, 4), 5, generator)
    x, _ = flow.forward(z)
    assert (plaquette(x, 0, 1) - plaquette(z, 0, 1)).sum((1, 2)).abs().max() < 1e-12
    for mu in (0, 1):
        difference = CIRCLE.wrap(flow.forward(reflect(z, mu))[0] - reflect(x, mu))
        assert difference.abs().max() < 1e-10


@pytest.mark.quick
def test_the_changes_of_links_have_no_divergence(generator):
    changes = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    moved = transverse(changes)
    torch.testing.assert_close(plaquette(moved, 0, 1), changes - changes.mean((1, 2), keepdim=True))
    divergence = sum(moved[:, mu] - moved[:, mu].roll(1, mu + 1) for mu in (0, 1))
    assert divergence.abs().max() < 1e-12


@pytest.mark.quick
def test_weights_do_not_know_the_volume(generator):
    """On periodic copies all plaquettes do what they do at home; log_det is as extensive as the constraint allows."""
    small, large = (plaquette_map(shape).double() for shape in ((4, 6), (8, 18)))
    initialise(small, generator)
    with torch.no_grad():
        for weight in small.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    large.load_state_dict(small.state_dict())
    z = small.prior.sample(2, generator)
    (x, log_det), (copy, log_det_of_copies) = small.transform.forward(z), large.transform.forward(z.tile(1, 1, 2, 3))
    torch.testing.assert_close(copy, x.tile(1, 1, 2, 3), atol=1e-12, rtol=0)
    by_places = torch.log(torch.linalg.det(_slopes(small.transform, z)))
    torch.testing.assert_close(log_det_of_copies - 6.0 * by_places, log_det - by_places, atol=1e-9, rtol=0)


def _slopes(chain, z):
    """diag F' of each configuration."""
    (part,) = chain.sequence()
    _, log_slope = part.spline.forward(plaquette(z, 0, 1), part.parameters_like(z))
    return torch.diag_embed(torch.exp(log_slope.flatten(1)))


def test_paths_between_couplings_need_few_random_updates(tmp_path: Path, generator):
    """Twenty-four sweeps on 8 x 8 from beta = 1 to 3; the weights of 4 x 4 do. log Z is the closed form."""
    action = WilsonU1(3.0)

    def flow_on(side, with_map=True):
        mapping = (TransformLayer(lambda there: PlaquetteMapFlow((side, side))),) if with_map else ()
        layers = (*mapping, MarkovLayer(HeatBath, 2))
        return StochasticFlowPlan((side, side), action, layers=layers, initial={"beta": 1.0}, n_steps=12).build()

    small, large, annealing = flow_on(4), flow_on(8), flow_on(8, with_map=False)
    settings = TrainingSettings(max_steps=100, learning_rate=0.05, monitor_samples=64)
    train(small, action, settings, tmp_path, seed=1, header={})
    large.load_state_dict(small.state_dict())
    log_w = evaluate(large, action, 2000, generator)
    log_z, exact = log_partition(log_w), action.closed_forms((8, 8)).log_z
    assert abs(log_z.value - exact) < 4.0 * log_z.error
    assert log_z.error < 0.02
    assert effective_sample_size(log_w).value > 0.8
    assert effective_sample_size(evaluate(annealing, action, 2000, generator)).value < 0.4


@pytest.mark.quick
def test_a_small_step_keeps_the_charge_and_the_loops_around_the_torus(generator):
    z = links((4, 4), 50, generator)
    flow = plaquette_map((4, 4)).double()
    with torch.no_grad():
        flow.transform.sequence()[0].scalars.add_(1e-6 * torch.randn(25, generator=generator, dtype=torch.float64))
    x, _ = flow.transform.forward(z)
    torch.testing.assert_close(topological_charge(x).round(), topological_charge(z).round())
    for mu in (0, 1):
        mean_loop = (x - z)[:, mu].sum(mu + 1).mean(1)
        assert mean_loop.abs().max() < 1e-12


@pytest.mark.quick
def test_what_it_does_not_support_is_refused():
    with pytest.raises(ValueError, match="n_bins = 1"):
        plaquette_map((4, 4), n_bins=1)
