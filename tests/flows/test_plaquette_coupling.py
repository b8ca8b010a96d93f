"""Plaquette couplings: their masks, what their loops can express, and the contract of every pattern and map."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from lattice_flows.flows import CircularSpline, HaarU1, Transform, forward_with_score, initialise, plaquette_coupling
from lattice_flows.flows.mask_pattern import OFFSETS, PATTERNS, MaskPattern, cell_sites
from lattice_flows.lattice import conjugate, gauge_transform, plaquette, translate
from lattice_flows.theories import ImprovedU1

pytestmark = pytest.mark.quick

SHAPES = ((4, 4), (8, 4))
CPU = torch.device("cpu")
EVERY_MASK = pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)


@dataclass(frozen=True)
class Case:
    """Eight layers far from the identity."""

    pattern: str
    circle: str
    shape: tuple[int, int]

    def build(self) -> Transform:
        options = {"n_layers": 8, "hidden": (6,), "n_bins": 5, "n_components": 3}
        flow = plaquette_coupling(self.shape, pattern=self.pattern, transform=self.circle, **options).double()
        initialise(flow, torch.Generator().manual_seed(1))
        with torch.no_grad():
            for weight in flow.parameters():
                weight.mul_(3.0)
        return flow.transform

    def links(self, generator: torch.Generator, n: int = 4) -> Tensor:
        return HaarU1((2, *self.shape)).sample(n, generator)


CASES = [
    Case(pattern, circle, shape) for pattern in PATTERNS for circle in ("projection", "spline") for shape in SHAPES
]
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.pattern} {case.circle} {case.shape}")


@EVERY_MASK
@pytest.mark.parametrize("mu", [0, 1])
def test_a_sweep_moves_every_link_once_and_no_frozen_plaquette(pattern: MaskPattern, mu: int) -> None:
    moved = []
    for offset in OFFSETS:
        active, passive, frozen = (set(sites.tolist()) for sites in cell_sites(pattern, mu, offset, (8, 12), CPU))
        assert len(active | passive) == 2 * len(active) == 48
        assert frozen.isdisjoint(active | passive)
        moved += active
    assert sorted(moved) == list(range(96))


@EVERY_MASK
def test_frozen_plaquettes_that_move_are_caught(pattern: MaskPattern) -> None:
    """The test above sees a pattern whose loops hold an active plaquette."""
    wrong = MaskPattern("wrong", pattern.shifts, pattern.loops, ((0, -1),))
    active, passive, frozen = (set(sites.tolist()) for sites in cell_sites(wrong, 0, 0, (8, 8), CPU))
    assert not frozen.isdisjoint(active | passive)


@pytest.mark.parametrize("mu", [0, 1])
@pytest.mark.parametrize("offset", OFFSETS)
def test_loops_hold_the_conditional_density_of_actions_of_small_loops(
    mu: int, offset: int, generator: torch.Generator
) -> None:
    """At fixed pair and frozen plaquettes, -S = h.(cos a, sin a) + constant with constant amplitudes of the loops."""
    action, pattern = ImprovedU1(3.0, 0.1), PATTERNS["checkerboard"]
    links = HaarU1((2, 8, 4)).sample(3, generator)
    sites = cell_sites(pattern, mu, offset, (8, 4), CPU)
    angles = plaquette(links, 0, 1).flatten(1).T
    active, pair = angles[sites.active], angles[sites.active] + angles[sites.passive]
    known = torch.cat([pair, angles[sites.frozen]]).view(-1, pair.numel())
    directions = (pattern.combinations().double() @ known)[: len(pattern.loops)].view(-1, *pair.shape)
    plain, rectangle = action.loop_couplings
    amplitudes = [plain] + [rectangle * (len(loop.frozen) == 1) for loop in pattern.loops[1:]]

    def log_density(a: Tensor) -> Tensor:
        pulls = [amplitude * torch.cos(a - direction) for amplitude, direction in zip(amplitudes, directions)]
        return (plain * torch.cos(a) + torch.stack(pulls).sum(0)).sum(0)

    change = torch.randn(active.shape, generator=generator, dtype=torch.float64)
    moved = links.clone()
    moved[:, mu].view(3, -1)[:, sites.active] += (1 - 2 * mu) * change.T
    expected = action(links) - action(moved)
    torch.testing.assert_close(log_density(active + change) - log_density(active), expected, atol=1e-10, rtol=0)
    assert expected.abs().max() > 0.1


@EVERY
def test_is_a_bijection_with_the_log_det_of_its_jacobian(case: Case, generator: torch.Generator) -> None:
    transform, z = case.build(), case.links(generator)
    x, log_det = transform.forward(z)
    back, inverse_log_det = transform.inverse(x)
    torch.testing.assert_close(back, z, atol=1e-9, rtol=0)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-8, rtol=0)
    jacobian = torch.autograd.functional.jacobian(lambda z: transform.forward(z)[0], z[:1], vectorize=True)
    sign, expected = torch.linalg.slogdet(jacobian.reshape(z[0].numel(), -1))
    assert sign == 1
    torch.testing.assert_close(log_det[0], expected, atol=1e-9, rtol=0)
    assert log_det.abs().min() > 0.1


SYMMETRIES: dict[str, Callable[[Tensor], Tensor]] = {
    "gauge": lambda links: gauge_transform(links, torch.linspace(0, 9, links[:, 0].numel()).view_as(links[:, 0])),
    "translation along 0": lambda links: translate(links, (4, 0)),
    "translation along 1": lambda links: translate(links, (0, 4)),
    "charge conjugation": conjugate,
}


def _deviation(transform: Transform, move: Callable[[Tensor], Tensor], z: Tensor) -> float:
    """How far the transform is from commuting with a symmetry that keeps its log_det."""
    x, log_det = transform.forward(z)
    moved, moved_log_det = transform.forward(move(z))
    angle = torch.sin(0.5 * (moved - move(x))).abs().max()
    return float(torch.maximum(angle, (moved_log_det - log_det).abs().max()).detach())


@EVERY
@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_commutes_with_symmetries(case: Case, symmetry: str, generator: torch.Generator) -> None:
    transform, z = case.build(), case.links(generator)
    assert _deviation(transform, SYMMETRIES[symmetry], z) < 1e-9
    assert (transform.forward(z)[0] - z).abs().max() > 0.5


def test_rows_are_seen_by_no_column_shift_but_the_checkerboard_is(generator: torch.Generator) -> None:
    """A translation by one site along mu is a symmetry of the rows' layers alone, which tells the patterns apart."""
    for pattern, expected in (("rows", True), ("checkerboard", False)):
        layer = Case(pattern, "projection", (8, 8)).build().transforms[0]
        z = HaarU1((2, 8, 8)).sample(2, generator)
        assert (_deviation(layer, lambda links: translate(links, (1, 0)), z) < 1e-9) == expected


def test_a_spline_that_is_not_mirrored_breaks_charge_conjugation(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case("rows", "spline", (4, 4))
    transform, z = case.build(), case.links(generator)
    monkeypatch.setattr(CircularSpline, "mirror", lambda self, scalars: scalars)
    assert _deviation(transform, conjugate, z) > 1e-3


@EVERY
def test_score_is_the_gradient_of_log_q(case: Case, generator: torch.Generator) -> None:
    """From a prior with a score of its own: log r = sum of cos over links, up to a constant."""
    transform, z = case.build(), case.links(generator, n=2)
    x, log_det, score = forward_with_score(transform, z, -torch.sin(z))
    end = x.detach().requires_grad_(True)
    back, inverse_log_det = transform.inverse(end)
    log_q = torch.cos(back).flatten(1).sum(1) + inverse_log_det
    (expected,) = torch.autograd.grad(log_q.sum(), end)
    torch.testing.assert_close(score, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(log_det, -inverse_log_det, atol=1e-8, rtol=0)
    assert not score.requires_grad
    assert (score + torch.sin(z)).abs().max() > 1


@EVERY_MASK
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (2, 4)])
def test_refuses_shapes_in_one_line(pattern: MaskPattern, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"multiples of 4.*got {shape[0]} x {shape[1]}$"):
        plaquette_coupling(shape, pattern=pattern.name)
