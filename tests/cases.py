"""What must pass each contract: one entry here buys every test that applies to it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from scalar_cases import SCALAR_FLOWS, trained_scalar_flow
from torch import Tensor
from vector_cases import VECTOR_FLOWS, trained_vector_flow

from lattice_flows.flows import (
    CIRCLE_MAPS,
    FLOWS,
    Chain,
    CircleTransform,
    CircularSpline,
    Flow,
    FourierScalingFlow,
    Inverse,
    Moebius,
    PlaquetteMapFlow,
    ProjectionMixture,
    Transform,
    direct_draws,
    gradient_flow,
    hybrid,
    initialise,
    multiscale,
    plaquette_coupling,
    plaquette_map,
    refine,
)
from lattice_flows.lattice import TWO_PI, conjugate, gauge_transform, reflect, translate
from lattice_flows.samplers import (
    HMC,
    SAMPLERS,
    SMC,
    Annealed,
    Cluster,
    Direct,
    FlowBlocks,
    FlowHMC,
    FlowMetropolis,
    FlowSamples,
    FlowSMC,
    FourierHMC,
    HeatBath,
    Instanton,
    LangevinLayer,
    LatentBlocks,
    Localised,
    LocalisedFlow,
    MarkovLayer,
    Metadynamics,
    Metropolis,
    Mixture,
    Overrelaxation,
    Part,
    RandomWalk,
    ReplicaExchange,
    Sampler,
    StochasticFlowPlan,
    SwendsenWang,
    Tempering,
    TransformLayer,
    Umbrella,
    WindingHMC,
)
from lattice_flows.theories import (
    THEORIES,
    XY,
    Action,
    AlanineDipeptide,
    DimerBath,
    DoubleWell,
    ImprovedU1,
    Ising,
    LabelledDimerBath,
    ManyWell,
    MolecularAction,
    MuellerBrown,
    OpenMMSystem,
    Peptide,
    Phi4,
    Phi4Hopping,
    Villain,
    WilsonU1,
    molecules,
)
from lattice_flows.training import TrainingSettings, recommended, train

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TransformCase:
    """A transform of 2D links and the symmetries it claims. `build` gives float64 weights far from the identity."""

    name: str
    build: Callable[[Shape], Transform]
    shapes: tuple[Shape, ...]
    gauge: bool = True
    translation: int = 0  # sites, along either axis; 0: none
    conjugation: bool = False


@dataclass(frozen=True)
class FlowCase:
    """A flow builder: `build(shape)` is small and quick; `refused` are shapes that it must not accept."""

    name: str
    catalogue_name: str
    build: Callable[[Shape], Flow]
    shapes: tuple[Shape, ...]
    refused: tuple[Shape, ...]
    needs: str = "multiples of 4"  # what the refusal says
    identity: bool = True  # where all weights are zero
    any_volume: bool = True  # the weights do on a periodic copy what they do at home
    drawn: bool = True  # the first weights are random


@dataclass(frozen=True)
class CircleCase:
    name: str
    circle: CircleTransform


def _coupling(shape: Shape, transform: str, **options: object) -> Flow:
    """Eight layers move every link; tripled weights make the map far from the identity."""
    flow = plaquette_coupling(shape, n_layers=8, transform=transform, **{"hidden": (6,), **options}).double()
    initialise(flow, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for weight in flow.parameters():
            weight.mul_(3.0)
    return flow


def projection_flow(shape: Shape) -> Flow:
    return _coupling(shape, "projection")


def spline_flow(shape: Shape) -> Flow:
    return _coupling(shape, "spline", n_bins=5)


def moebius_flow(shape: Shape) -> Flow:
    return _coupling(shape, "moebius")


def rows_flow(shape: Shape) -> Flow:
    return _coupling(shape, "projection", pattern="rows", hidden=(6, 6))


def _agitated(flow: Flow, size: float) -> Flow:
    """The flow with random weights, far from the identity."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return flow.double()


def mlp_tree(shape: Shape) -> Flow:
    return _agitated(multiscale(shape, WilsonU1(2.0), conditioner="mlp", n_bins=5, n_knots=9, hidden=(8,)), 0.3)


def structured_tree(shape: Shape) -> Flow:
    return _agitated(multiscale(shape, WilsonU1(2.0), conditioner="structured", n_bins=12, n_harmonics=4), 0.2)


def exact_tree(shape: Shape) -> Flow:
    return multiscale(shape, WilsonU1(2.0), conditioner="exact", n_bins=16)


def hybrid_flow(shape: Shape) -> Flow:
    return _agitated(hybrid(shape, ImprovedU1(1.5, 1.0 / 12.0), n_layers=8, hidden=(6,)), 0.1)


def downhill(shape: Shape, beta: float, n_steps: int) -> Flow:
    """A gradient flow that knows how far off its steps are."""
    flow = _agitated(gradient_flow(shape, WilsonU1(beta), area=2, n_knots=3, n_steps=n_steps), 0.1)
    refine(flow, WilsonU1(beta), flow.prior.sample(8, torch.Generator().manual_seed(1)))
    return flow


def mapped(shape: Shape, size: float = 2.0) -> Flow:
    """One map of all plaquettes, far from the identity."""
    return _agitated(plaquette_map(shape), size)


COUPLING_SHAPES = ((4, 4), (8, 4), (4, 12))
TREE_SHAPES = ((4, 4), (6, 4), (6, 10), (3, 5))

TRANSFORMS = [
    TransformCase(
        "projection",
        lambda shape: projection_flow(shape).transform,
        COUPLING_SHAPES,
        translation=4,
        conjugation=True,
    ),
    TransformCase(
        "projection in rows",
        lambda shape: rows_flow(shape).transform,
        COUPLING_SHAPES,
        translation=4,
        conjugation=True,
    ),
    TransformCase(
        "spline", lambda shape: spline_flow(shape).transform, COUPLING_SHAPES, translation=4, conjugation=True
    ),
    TransformCase(
        "moebius", lambda shape: moebius_flow(shape).transform, COUPLING_SHAPES[:1], translation=4, conjugation=True
    ),
    TransformCase(
        "inverse of a chain of both",
        lambda shape: Inverse(Chain(projection_flow(shape).transform, spline_flow(shape).transform)),
        ((4, 4),),
        translation=4,
        conjugation=True,
    ),
    TransformCase("tree mlp", lambda shape: mlp_tree(shape).transform, TREE_SHAPES, conjugation=True),
    TransformCase("tree structured", lambda shape: structured_tree(shape).transform, TREE_SHAPES, conjugation=True),
    TransformCase("tree exact", lambda shape: exact_tree(shape).transform, TREE_SHAPES, conjugation=True),
    TransformCase(
        "gradient flow",
        lambda shape: downhill(shape, 2.0, 80).transform,
        ((4, 4), (6, 3)),
        translation=1,
        conjugation=True,
    ),
    TransformCase(
        "plaquette map",
        lambda shape: mapped(shape).transform,
        ((4, 4), (5, 3), (2, 4)),
        translation=1,
        conjugation=True,
    ),
    TransformCase("hybrid", lambda shape: hybrid_flow(shape).transform, ((4, 4), (8, 4)), conjugation=True),
]

CIRCLES = [
    CircleCase("projection of 1", ProjectionMixture(1)),
    CircleCase("projection of 3", ProjectionMixture(3)),
    CircleCase("moebius", Moebius()),
    CircleCase("spline of 2", CircularSpline(2)),
    CircleCase("spline of 8", CircularSpline(8)),
]

assert {type(case.circle) for case in CIRCLES} == set(CIRCLE_MAPS.maps.values()), "every catalogued map needs a case"

FLOW_CASES = [
    FlowCase("projection", "plaquette_coupling", projection_flow, ((4, 4), (8, 4)), ((6, 4), (4, 6), (2, 4), (4,))),
    FlowCase("spline", "plaquette_coupling", spline_flow, ((4, 4), (8, 4)), ((6, 4), (4, 6), (2, 4), (4,))),
    FlowCase(
        "tree mlp", "multiscale", mlp_tree, ((4, 4), (6, 4)), ((4,), (4, 4, 4), (1, 1)), "two sides", any_volume=False
    ),
    FlowCase(
        "tree structured",
        "multiscale",
        structured_tree,
        ((4, 4), (3, 5)),
        ((4,), (4, 4, 4)),
        "two sides",
        identity=False,
        any_volume=False,
    ),
    FlowCase(
        "hybrid",
        "hybrid",
        hybrid_flow,
        ((4, 4), (8, 4)),
        ((6, 4), (4, 6), (2, 4), (4,)),
        identity=False,
        any_volume=False,
    ),
    FlowCase(
        "gradient flow",
        "gradient_flow",
        lambda shape: downhill(shape, 0.7, 60),
        ((4, 4), (6, 3)),
        ((4,), (4, 4, 4), (1, 4)),
        "two sides",
        drawn=False,
    ),
    FlowCase(
        "plaquette map",
        "plaquette_map",
        lambda shape: mapped(shape, 0.4),
        ((4, 4), (5, 3)),
        ((4,), (4, 4, 4), (1, 4)),
        "two sides",
        any_volume=False,  # log_det of its constraint is no sum over places
        drawn=False,
    ),
]

ELSEWHERE = {  # what is not of couplings has tests of its own
    "direct_draws": "flows/test_direct_draws.py",
    "composed": "flows/test_catalogue.py",
    "fourier_scaling": "flows/test_fourier_scaling.py",
    "internal_coupling": "flows/molecules/test_internal_coupling.py",
    "symmetrised": "flows/test_symmetrised.py",
    "stochastic_flow": "samplers/test_stochastic_flow.py",
}

assert {case.catalogue_name for case in (*FLOW_CASES, *SCALAR_FLOWS, *VECTOR_FLOWS)} | ELSEWHERE.keys() == set(FLOWS), (
    "every catalogued flow needs a case"
)


@dataclass(frozen=True)
class ActionCase:
    """An action on a lattice of this shape, () without one; `images(x, generator)` are x under all its symmetries."""

    name: str
    action: Action
    lattice_shape: Shape
    images: Callable[[Tensor, torch.Generator], list[Tensor]]
    size: float = 1.0
    """Of a change of x that S follows."""

    @property
    def event(self) -> Shape:
        return self.action.event_shape(self.lattice_shape)


def link_images(x: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Links (B, D, *lattice_shape) transformed, conjugated, translated and reflected."""
    alpha = torch.randn(x[:, 0].shape, generator=generator, dtype=torch.float64)
    moved = [reflect(x, mu) for mu in range(x.ndim - 2)]
    return [gauge_transform(x, alpha), conjugate(x), translate(x, (1,) * (x.ndim - 2)), *moved]


def site_images(x: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Numbers on sites (B, *lattice_shape) with the other sign, translated and reflected."""
    axes = range(1, x.ndim)
    return [-x, *(torch.roll(x, 1, axis) for axis in axes), *(torch.flip(x, [axis]) for axis in axes)]


def plane_images(x: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Points (B, 2) with the other sign of y."""
    return [x * torch.tensor([1.0, -1.0], dtype=x.dtype)]


def turned_molecules(x: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Atoms (B, n_atoms, 3) turned about the origin."""
    turns, _ = torch.linalg.qr(torch.randn(len(x), 3, 3, generator=generator, dtype=torch.float64))
    return [x @ (turns * torch.linalg.det(turns)[:, None, None]).to(x)]


def wells_images(x: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Wells (B, 2 n) in another order."""
    return [x.roll(2, 1)]


def dimer_images(x: Tensor, generator: torch.Generator) -> list[Tensor]:
    """A dimer in its bath (B, 2 + n_bath, 2): mirrored, with its ends exchanged, and the bath in another order."""
    ends, bath = x[:, :2], x[:, 2:]
    mirrored = [x * torch.tensor(signs, dtype=x.dtype) for signs in ([-1.0, 1.0], [1.0, -1.0])]
    return [*mirrored, torch.cat([ends.flip(1), bath], 1), torch.cat([ends, bath.roll(1, 1)], 1)]


def no_images(x: Tensor, generator: torch.Generator) -> list[Tensor]:
    return []


def spin_images(x: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Planar spins (B, L0, L1) turned by one angle, and as numbers on sites; each angle is as good as a turn more."""
    turned = x + TWO_PI * torch.rand(len(x), 1, 1, generator=generator, dtype=torch.float64)
    return [turned, *site_images(x, generator), *site_images(turned, generator)]


MOLECULE = tuple(
    str(Path(molecules.__file__).parent / "data" / f"alanine-dipeptide.{kind}") for kind in ("prmtop", "crd")
)

ACTION_CASES = [
    ActionCase("u1 8x8", WilsonU1(2.0), (8, 8), link_images),
    ActionCase("u1 5x3", WilsonU1(0.7), (5, 3), link_images),
    ActionCase("u1 3x4x3", WilsonU1(1.3), (3, 4, 3), link_images),
    ActionCase("u1_improved 6x4", ImprovedU1(3.0, -1.0 / 12.0), (6, 4), link_images),
    ActionCase("u1_improved 2x3", ImprovedU1(6.0, 1.0 / 12.0), (2, 3), link_images),
    ActionCase("phi4 6x5", Phi4(-4.0, 8.0), (6, 5), site_images),
    ActionCase("phi4 7", Phi4(0.5, 1.0), (7,), site_images),
    ActionCase("phi4 2x3x4", Phi4(-1.0, 0.7), (2, 3, 4), site_images),
    ActionCase("phi4 hopping 6x4", Phi4Hopping(0.25, 0.1), (6, 4), site_images),
    ActionCase("double_well", DoubleWell(0.7), (), plane_images),
    ActionCase("mueller_brown", MuellerBrown(0.1), (), no_images),
    ActionCase("alanine dipeptide", AlanineDipeptide(350.0), (), turned_molecules, size=0.01),
    ActionCase("amber files", OpenMMSystem(*MOLECULE, implicit_solvent="none"), (), turned_molecules, size=0.01),
    ActionCase("peptide", Peptide("S"), (), turned_molecules, size=0.01),
    ActionCase("many_well", ManyWell(3, 0.8), (), wells_images),
    ActionCase("dimer_bath", DimerBath(36, 0.02), (), dimer_images),
    ActionCase("dimer_bath of 3", DimerBath(3, 0.05), (), dimer_images),
    ActionCase("dimer_bath as a crystal", DimerBath(4, 0.1, 0.0, 5.0), (), no_images),
    ActionCase("labelled_dimer_bath", LabelledDimerBath(4, 0.02), (), no_images),
    ActionCase("ising 6x4", Ising(0.4), (6, 4), site_images),
    ActionCase("ising 2x3", Ising(0.7), (2, 3), site_images),
    ActionCase("xy 6x4", XY(1.1), (6, 4), spin_images),
    ActionCase("xy 5x3", XY(0.8), (5, 3), spin_images),
    ActionCase("xy 2x3", XY(0.9), (2, 3), spin_images),
    ActionCase("villain 4x5", Villain(0.8), (4, 5), spin_images),
    ActionCase("villain 2x2", Villain(0.3), (2, 2), spin_images),
]

assert {type(case.action) for case in ACTION_CASES} == set(THEORIES.values()), "every catalogued action needs a case"

ON_DEVICES = [
    case
    for case in ACTION_CASES
    if not isinstance(case.action, (LabelledDimerBath, MolecularAction)) and getattr(case.action, "tether", 0.0) == 0.0
]
"""Those that compute where their configurations are: OpenMM and scipy, which finds the order of a bath, need them on
the host, and so does the table of the places of a crystal."""


Point = tuple[Shape, Action]


@dataclass(frozen=True)
class SamplerCase:
    """`build(action, shape)` makes the sampler; the numbers are what the tests of expectation values need of it.

    `points` are lattices and actions; where these are solvable, expectation values are tested. `compiled` samplers give
    the same bits for any threads and grouping. One that is not `ergodic` is tested for invariance, from direct starts.
    """

    name: str
    catalogue_name: str
    build: Callable[[Action, Shape], Sampler]
    points: tuple[Point, ...]
    n_chains: int
    n_configs: int
    n_updates: int
    compiled: bool = True


MANY_POINTS: tuple[Point, ...] = tuple(
    (shape, WilsonU1(beta))
    for shape, beta in (
        ((4, 4), 1.0),
        ((8, 8), 2.0),
        ((6, 10), 1.5),
        ((3, 5), 2.5),
        ((2, 2), 1.0),
        ((16, 16), 7.0),
    )
)
FREE_POINTS: tuple[Point, ...] = (
    ((6, 4), Phi4(1.0, 0.0)),
    ((5, 3), Phi4(0.3, 0.0)),
    ((8,), Phi4(0.5, 0.0)),
    ((2, 4, 3), Phi4(0.7, 0.0)),
    ((8, 8), Phi4(0.2, 0.0)),
    ((6, 6), Phi4Hopping(0.2, 0.0)),
)
ISING_POINTS: tuple[Point, ...] = tuple(
    (shape, Ising(beta))
    for shape, beta in (
        ((4, 4), 0.3),
        ((3, 5), 0.44),
        ((6, 4), 0.5),
        ((2, 7), 0.35),
        ((8, 8), 0.44068679350977147),
        ((16, 9), 0.42),
    )
)
SCALAR_POINTS: tuple[Point, ...] = (FREE_POINTS[0], FREE_POINTS[2])
POTENTIAL_POINTS: tuple[Point, ...] = (((), DoubleWell()), ((), MuellerBrown()))
SPIN_POINTS: tuple[Point, ...] = (((6, 5), XY(0.9)),)
VILLAIN_POINTS: tuple[Point, ...] = (((4, 7), Villain(0.8)),)
FLOW_POINTS: tuple[Point, ...] = (((4, 4), WilsonU1(1.0)), ((8, 4), WilsonU1(1.0)))
TREE_POINTS: tuple[Point, ...] = (((8, 8), WilsonU1(2.0)), ((6, 10), WilsonU1(2.0)))


@cache
def trained_flow(shape: Shape, beta: float, transform: str, steps: int = 150) -> Flow:
    """A small flow, trained for a few seconds; float64 throughout."""
    torch.set_num_threads(1)
    flow = plaquette_coupling(shape, n_layers=8, transform=transform)
    with TemporaryDirectory() as folder:
        train(flow, WilsonU1(beta), TrainingSettings(max_steps=steps), Path(folder), seed=1, header={})
    return flow.double().requires_grad_(False)


@cache
def trained_tree(shape: Shape, beta: float, conditioner: str, steps: int = 150) -> Flow:
    """A multiscale flow after a second or two: its weights still differ."""
    torch.set_num_threads(1)
    flow = multiscale(shape, WilsonU1(beta), conditioner=conditioner)
    suitable = recommended("multiscale", {"conditioner": conditioner})
    settings = TrainingSettings(**{**suitable, "max_steps": steps, "batch_size": 64, "final_batch_size": 256})
    with TemporaryDirectory() as folder:
        train(flow, WilsonU1(beta), settings, Path(folder), seed=1, header={})
    return flow.requires_grad_(False)


@cache
def trained_hybrid(shape: Shape, action: ImprovedU1, tree_beta: float, steps: int = 100) -> Flow:
    """A hybrid flow after a few seconds; float64 throughout."""
    torch.set_num_threads(1)
    flow = hybrid(shape, action, tree_beta=tree_beta, n_layers=8)
    settings = TrainingSettings(max_steps=steps, monitor_samples=128)
    with TemporaryDirectory() as folder:
        train(flow, action, settings, Path(folder), seed=1, header={})
    return flow.double().requires_grad_(False)


def _flow_metropolis(action: Action, shape: Shape) -> Sampler:
    return FlowMetropolis(action, trained_flow(shape, 1.0, "projection"), batch_size=500)


def _flow_hmc(action: Action, shape: Shape) -> Sampler:
    return FlowHMC(action, trained_flow(shape, 1.0, "projection"), 1.0, 4)


def _drifting(action: Action, shape: Shape) -> Sampler:
    return FlowHMC(action, trained_flow(shape, 1.0, "projection"), 4.0, force="none")


def _clipped(action: Action, shape: Shape) -> Sampler:
    return FlowHMC(action, trained_flow(shape, 1.0, "projection"), 1.0, 3, force="clipped", clip=0.1)


def _flow_samples(action: Action, shape: Shape) -> Sampler:
    return FlowSamples(action, trained_flow(shape, 1.0, "projection"), batch_size=500)


def _latent_blocks(action: Action, shape: Shape) -> Sampler:
    return LatentBlocks(action, trained_flow(shape, 1.0, "projection"), 2)


def _tree_blocks(action: Action, shape: Shape) -> Sampler:
    return LatentBlocks(action, trained_tree(shape, 2.0, "mlp"), 1)


def _localised(action: Action, shape: Shape) -> Sampler:
    return Localised(action, min(4, *shape), 1.1 * action.beta)


def _localised_flow(action: Action, shape: Shape) -> Sampler:
    return LocalisedFlow(action, trained_tree((8, 8), 2.0, "mlp"), 4)  # on any lattice


def _scalar_blocks(action: Action, shape: Shape) -> Sampler:
    return LatentBlocks(action, trained_scalar_flow(shape, action, "affine", 30), 3)


def _vector_blocks(action: Action, shape: Shape) -> Sampler:
    return LatentBlocks(action, trained_vector_flow(action, "spline"), 1)


def _tree_metropolis(action: Action, shape: Shape) -> Sampler:
    return FlowMetropolis(action, trained_tree(shape, 2.0, "mlp"), batch_size=500)


def _tree_hmc(action: Action, shape: Shape) -> Sampler:
    return FlowHMC(action, trained_tree(shape, 2.0, "mlp"), 4.0, force="none")  # a force hardly accepts


def _tree_samples(action: Action, shape: Shape) -> Sampler:
    return FlowSamples(action, trained_tree(shape, 2.0, "mlp"), batch_size=500)


def _direct_metropolis(action: Action, shape: Shape) -> Sampler:
    return FlowMetropolis(action, direct_draws(shape, action, couplings={"beta": 0.8 * action.beta}), batch_size=500)


def _scalar_metropolis(action: Action, shape: Shape) -> Sampler:
    return FlowMetropolis(action, trained_scalar_flow(shape, action, "spline", 30), batch_size=500)


def _scalar_hmc(action: Action, shape: Shape) -> Sampler:
    return FlowHMC(action, trained_scalar_flow(shape, action, "affine", 30), 1.0, 4)


def _rotating(action: Action, shape: Shape) -> Sampler:
    return FlowHMC(action, trained_scalar_flow(shape, action, "affine", 30), 1.5, force="none")


def _with_proposals(action: Action, shape: Shape) -> Sampler:
    return _mixture(_scalar_metropolis(action, shape), HMC(action, 1.5, 8), _scalar_metropolis(action, shape))


def _scalar_samples(action: Action, shape: Shape) -> Sampler:
    return FlowSamples(action, trained_scalar_flow(shape, action, "affine", 30), batch_size=500)


def _vector_chain(action: Action, shape: Shape) -> Sampler:
    return FlowMetropolis(action, trained_vector_flow(action, "spline"), batch_size=500)


def _vector_hmc(action: Action, shape: Shape) -> Sampler:
    return FlowHMC(action, trained_vector_flow(action, "spline"), 1.0, 5)


def _vector_samples(action: Action, shape: Shape) -> Sampler:
    return FlowSamples(action, trained_vector_flow(action, "spline"), batch_size=500)


def _torch_hmc(action: Action, shape: Shape) -> Sampler:
    return HMC(WithoutKernels(action.beta), 1.0, 6)


class WallsWithoutKernels(MuellerBrown):
    """The potential of Mueller and Brown without its compiled forms."""

    def kernel_couplings(self, event: Shape) -> None:
        return None


def _torch_walls(action: Action, shape: Shape) -> Sampler:
    return HMC(WallsWithoutKernels(action.scale), 0.5, 10)


def _torch_umbrella(action: Action, shape: Shape) -> Sampler:
    return Umbrella(WithoutKernels(action.beta), 2, spring=1e-9, q_max=1.0, n_md_steps=6)


def _mixture(*parts: Sampler) -> Sampler:
    return Mixture(parts[0].action, tuple(map(Part, parts)))


class WithoutKernels(WilsonU1):
    """The Wilson action without its compiled forms, for the torch path of HMC."""

    def kernel_couplings(self, event: Shape) -> None:
        return None


def _tempering(action: Action, shape: Shape) -> Sampler:
    betas = (action.beta, 0.8 * action.beta, 0.6 * action.beta)
    return Tempering(action, lambda rung: HMC(rung, 1.0, 6), values=betas)


def _tempering_in_scale(action: Action, shape: Shape) -> Sampler:
    scales = (action.scale, 0.5 * action.scale, 0.2 * action.scale)
    return Tempering(action, lambda rung: HMC(rung, 0.5, 10), coupling="scale", values=scales)


def _spin_tempering(action: Action, shape: Shape) -> Sampler:
    return Tempering(action, HeatBath, values=(action.beta, 0.8 * action.beta, 0.6 * action.beta))


def _annealed(action: Action, shape: Shape) -> Sampler:
    return Annealed(action, HeatBath, {"beta": 0.4 * action.beta}, 6, (0.0, 0.3, 1.0), batch_size=500)


def _annealed_scalar(action: Action, shape: Shape) -> Sampler:
    return Annealed(action, lambda rung: HMC(rung, 1.0, 6), {"m2": 2.0 * action.m2}, 3, (0.0, 1.0), batch_size=500)


def _smc(action: Action, shape: Shape) -> Sampler:
    """Particles in fours, resampled at most steps."""
    return SMC(action, HeatBath, {"beta": 0.4 * action.beta}, 4, 6, (0.0, 0.3, 1.0), 0.9)


def _smc_scalar(action: Action, shape: Shape) -> Sampler:
    return SMC(action, lambda rung: HMC(rung, 1.0, 6), {"m2": 2.0 * action.m2}, 4, 3, (0.0, 1.0), 0.9)


def _flow_smc(action: Action, shape: Shape) -> Sampler:
    """Particles in fours, mapped at random and resampled at most steps."""
    layers = (TransformLayer(lambda rung: PlaquetteMapFlow(shape, n_bins=4)), MarkovLayer(HeatBath))
    plan = StochasticFlowPlan(shape, action, layers=layers, initial={"beta": 0.5 * action.beta}, n_steps=2)
    return FlowSMC(action, _agitated(plan.build(), 0.2).requires_grad_(False), 4, 0.9)


def _flow_smc_scalar(action: Action, shape: Shape) -> Sampler:
    layers = (
        LangevinLayer(0.02, 2),
        TransformLayer(lambda rung: FourierScalingFlow(shape, rung)),
        MarkovLayer(lambda rung: HMC(rung, 1.0, 6)),
    )
    plan = StochasticFlowPlan(shape, action, layers=layers, initial={"m2": 2.0 * action.m2}, n_steps=2)
    return FlowSMC(action, _agitated(plan.build(), 0.02).requires_grad_(False), 4, 0.9)


def _flow_smc_spins(action: Action, shape: Shape) -> Sampler:
    layers = (LangevinLayer(0.05), MarkovLayer(HeatBath))
    plan = StochasticFlowPlan(shape, action, layers=layers, initial={"beta": 0.0}, n_steps=4)
    return FlowSMC(action, plan.build(), 4, 0.8)


def _replica_exchange(action: Action, shape: Shape) -> Sampler:
    return ReplicaExchange(action, (Part(HMC(action, 1.0, 6)), Part(Metadynamics(action, 1.0, 6, q_max=4.0))))


SAMPLER_CASES = [
    SamplerCase("hmc", "hmc", lambda action, shape: HMC(action, 1.0, 6), MANY_POINTS, 64, 200, 8),
    SamplerCase("hmc of phi4", "hmc", lambda action, shape: HMC(action, 1.5, 8), FREE_POINTS, 64, 120, 4),
    SamplerCase("hmc omelyan4", "hmc", lambda a, shape: HMC(a, 1.0, 2, integrator="omelyan4"), MANY_POINTS, 64, 100, 8),
    SamplerCase("hmc in torch", "hmc", _torch_hmc, MANY_POINTS[:1], 200, 60, 3, compiled=False),
    SamplerCase("metropolis", "metropolis", lambda action, shape: Metropolis(action, 1.0), MANY_POINTS, 64, 250, 8),
    SamplerCase("metropolis of phi4", "metropolis", lambda a, shape: Metropolis(a, 1.0), FREE_POINTS, 64, 120, 10),
    SamplerCase("hmc of xy", "hmc", lambda a, shape: HMC(a, 1.0, 6), SPIN_POINTS, 64, 120, 4),
    SamplerCase("hmc of villain", "hmc", lambda a, shape: HMC(a, 1.0, 6), VILLAIN_POINTS, 64, 120, 4),
    SamplerCase("metropolis of xy", "metropolis", lambda a, shape: Metropolis(a, 2.0), SPIN_POINTS, 64, 120, 4),
    SamplerCase("metropolis of villain", "metropolis", lambda a, s: Metropolis(a, 2.0), VILLAIN_POINTS, 64, 120, 4),
    SamplerCase("heatbath of xy", "heatbath", lambda action, shape: HeatBath(action), SPIN_POINTS, 64, 120, 4),
    SamplerCase("overrelaxation of xy", "overrelaxation", lambda a, s: Overrelaxation(a), SPIN_POINTS, 64, 120, 4),
    SamplerCase("cluster of xy", "cluster", lambda action, shape: Cluster(action), SPIN_POINTS, 64, 120, 4),
    SamplerCase("cluster of villain", "cluster", lambda action, shape: Cluster(action), VILLAIN_POINTS, 64, 120, 4),
    SamplerCase("heatbath", "heatbath", lambda action, shape: HeatBath(action), MANY_POINTS, 64, 250, 4),
    SamplerCase("heatbath of phi4", "heatbath", lambda action, shape: HeatBath(action), FREE_POINTS, 64, 120, 4),
    SamplerCase("overrelaxation", "overrelaxation", lambda a, shape: Overrelaxation(a), MANY_POINTS, 4000, 5, 2),
    SamplerCase("overrelaxation of phi4", "overrelaxation", lambda a, s: Overrelaxation(a), FREE_POINTS, 4000, 5, 2),
    SamplerCase("instanton", "instanton", lambda action, shape: Instanton(action), MANY_POINTS, 4000, 5, 2),
    SamplerCase(
        "mixture of hmc and instanton",
        "mixture",
        lambda action, shape: _mixture(HMC(action, 1.0, 6), Instanton(action)),
        MANY_POINTS,
        64,
        120,
        4,
    ),
    SamplerCase(
        "mixture of heatbath and overrelaxation",
        "mixture",
        lambda action, shape: _mixture(HeatBath(action), Overrelaxation(action)),
        (*MANY_POINTS, *FREE_POINTS),
        64,
        120,
        3,
    ),
    SamplerCase("fourier_hmc", "fourier_hmc", lambda a, shape: FourierHMC(a, 0.5), FREE_POINTS, 64, 120, 2),
    SamplerCase("cluster", "cluster", lambda action, shape: Cluster(action), FREE_POINTS, 4000, 5, 2),
    SamplerCase("cluster of ising", "cluster", lambda action, shape: Cluster(action), ISING_POINTS, 64, 250, 4),
    SamplerCase("swendsen_wang", "swendsen_wang", lambda a, shape: SwendsenWang(a), ISING_POINTS, 64, 250, 2),
    SamplerCase("metropolis of ising", "metropolis", lambda a, shape: Metropolis(a), ISING_POINTS, 64, 250, 10),
    SamplerCase("heatbath of ising", "heatbath", lambda action, shape: HeatBath(action), ISING_POINTS, 64, 250, 10),
    SamplerCase(
        "mixture of heatbath and cluster",
        "mixture",
        lambda action, shape: _mixture(HeatBath(action), Cluster(action)),
        ISING_POINTS[:2],
        64,
        120,
        3,
    ),
    SamplerCase("tempering of ising", "tempering", _spin_tempering, ISING_POINTS[:2], 64, 120, 4),
    SamplerCase(
        "winding_hmc",
        "winding_hmc",
        lambda a, shape: WindingHMC(a, 1.0, 6, size=1 if min(shape) == 2 else None),
        MANY_POINTS,
        64,
        120,
        4,
    ),
    SamplerCase("tempering", "tempering", _tempering, MANY_POINTS, 64, 60, 4),
    SamplerCase("replica_exchange", "replica_exchange", _replica_exchange, MANY_POINTS, 64, 60, 4),
    SamplerCase(
        "metadynamics",
        "metadynamics",
        lambda a, shape: Metadynamics(a, 1.0, 6, q_max=4.0),
        MANY_POINTS,
        64,
        120,
        4,
    ),
    # Windows so wide that a direct start is in equilibrium in them; narrow ones are joined in test_umbrella.py.
    SamplerCase(
        "umbrella",
        "umbrella",
        lambda a, shape: Umbrella(a, 2, spring=1e-9, q_max=1.0, n_md_steps=6),
        MANY_POINTS,
        64,
        120,
        4,
    ),
    SamplerCase("hmc of potentials", "hmc", lambda a, shape: HMC(a, 0.5, 10), POTENTIAL_POINTS, 2000, 10, 4),
    SamplerCase("hmc in torch between walls", "hmc", _torch_walls, POTENTIAL_POINTS[1:], 1000, 5, 2, compiled=False),
    SamplerCase(
        "random_walk of potentials", "random_walk", lambda a, s: RandomWalk(a, 0.3), POTENTIAL_POINTS, 2000, 10, 8
    ),
    SamplerCase("tempering in scale", "tempering", _tempering_in_scale, POTENTIAL_POINTS, 500, 20, 4),
    SamplerCase(
        "umbrella of phi4 with swaps",
        "umbrella",
        lambda a, shape: Umbrella(a, 2, spring=1e-9, q_max=1.0, trajectory_length=1.5, n_md_steps=8, exchange_every=3),
        SCALAR_POINTS,
        64,
        120,
        8,
    ),
    SamplerCase("umbrella in torch", "umbrella", _torch_umbrella, MANY_POINTS[:1], 200, 40, 2, compiled=False),
    SamplerCase(
        "metadynamics of phi4",
        "metadynamics",
        lambda a, shape: Metadynamics(a, 1.5, 8, q_max=2.0),
        SCALAR_POINTS,
        64,
        120,
        4,
    ),
    SamplerCase(
        "metadynamics of u1_improved",
        "metadynamics",
        lambda a, shape: Metadynamics(ImprovedU1(a.beta, 0.0), 1.0, 6, q_max=4.0),
        MANY_POINTS[:1],
        64,
        120,
        4,
    ),
    SamplerCase("random_walk", "random_walk", lambda a, shape: RandomWalk(a, 0.2), FREE_POINTS[2:3], 64, 120, 200),
    SamplerCase("random_walk of ising", "random_walk", lambda a, s: RandomWalk(a, 0.1), ISING_POINTS[:1], 64, 60, 30),
    SamplerCase("direct", "direct", lambda action, shape: Direct(action), (*MANY_POINTS, *FREE_POINTS), 64, 120, 1),
    SamplerCase("annealed", "annealed", _annealed, (MANY_POINTS[0], *MANY_POINTS[2:5], *SPIN_POINTS), 200, 40, 1),
    SamplerCase("annealed phi4", "annealed", _annealed_scalar, SCALAR_POINTS, 200, 30, 1),
    SamplerCase("smc", "smc", _smc, (MANY_POINTS[0], *MANY_POINTS[2:4], *SPIN_POINTS), 400, 40, 1),
    SamplerCase("smc phi4", "smc", _smc_scalar, SCALAR_POINTS, 400, 30, 1),
    SamplerCase("flow_smc", "flow_smc", _flow_smc, (MANY_POINTS[0], MANY_POINTS[3]), 200, 20, 1),
    SamplerCase("flow_smc phi4", "flow_smc", _flow_smc_scalar, SCALAR_POINTS, 200, 20, 1),
    SamplerCase("flow_smc of xy", "flow_smc", _flow_smc_spins, SPIN_POINTS, 200, 20, 1),
    SamplerCase("flow_metropolis", "flow_metropolis", _flow_metropolis, FLOW_POINTS, 100, 100, 2, compiled=False),
    SamplerCase("flow_hmc", "flow_hmc", _flow_hmc, FLOW_POINTS, 200, 50, 1, compiled=False),
    SamplerCase("flow_hmc without a force", "flow_hmc", _drifting, FLOW_POINTS[:1], 200, 50, 1, compiled=False),
    SamplerCase("flow_hmc with a clipped force", "flow_hmc", _clipped, FLOW_POINTS[:1], 200, 50, 1, compiled=False),
    SamplerCase("flow_hmc of phi4 without a force", "flow_hmc", _rotating, SCALAR_POINTS, 200, 30, 1, compiled=False),
    SamplerCase("flow_blocks", "flow_blocks", lambda a, shape: FlowBlocks(a, 1.2 * a.beta), MANY_POINTS, 64, 120, 2),
    SamplerCase("localised", "localised", _localised, MANY_POINTS, 64, 120, 4),
    SamplerCase("localised_flow", "localised_flow", _localised_flow, TREE_POINTS, 64, 120, 4),
    SamplerCase("latent_blocks", "latent_blocks", _latent_blocks, FLOW_POINTS, 200, 30, 1, compiled=False),
    SamplerCase("latent_blocks of a tree", "latent_blocks", _tree_blocks, TREE_POINTS, 200, 30, 1, compiled=False),
    SamplerCase("latent_blocks of phi4", "latent_blocks", _scalar_blocks, SCALAR_POINTS, 200, 30, 1, compiled=False),
    SamplerCase("latent_blocks of vectors", "latent_blocks", _vector_blocks, POTENTIAL_POINTS, 200, 20, 1, False),
    SamplerCase("flow_samples", "flow_samples", _flow_samples, FLOW_POINTS, 100, 100, 1, compiled=False),
    SamplerCase(
        "flow_metropolis of a tree", "flow_metropolis", _tree_metropolis, TREE_POINTS, 100, 60, 2, compiled=False
    ),
    SamplerCase("flow_hmc of a tree", "flow_hmc", _tree_hmc, TREE_POINTS, 200, 30, 1, compiled=False),
    SamplerCase("flow_samples of a tree", "flow_samples", _tree_samples, TREE_POINTS, 100, 60, 1, compiled=False),
    SamplerCase(
        "flow_metropolis of direct draws",
        "flow_metropolis",
        _direct_metropolis,
        FLOW_POINTS,
        100,
        60,
        2,
        compiled=False,
    ),
    SamplerCase(
        "flow_metropolis of phi4", "flow_metropolis", _scalar_metropolis, SCALAR_POINTS, 100, 60, 2, compiled=False
    ),
    SamplerCase("flow_hmc of phi4", "flow_hmc", _scalar_hmc, SCALAR_POINTS, 200, 30, 1, compiled=False),
    SamplerCase(
        "mixture of flow_metropolis and hmc", "mixture", _with_proposals, SCALAR_POINTS[:1], 100, 40, 1, compiled=False
    ),
    SamplerCase("flow_samples of phi4", "flow_samples", _scalar_samples, SCALAR_POINTS, 100, 60, 1, compiled=False),
    SamplerCase("flow_metropolis of vectors", "flow_metropolis", _vector_chain, POTENTIAL_POINTS, 100, 60, 2, False),
    SamplerCase("flow_hmc of vectors", "flow_hmc", _vector_hmc, POTENTIAL_POINTS, 200, 20, 1, compiled=False),
    SamplerCase("flow_samples of vectors", "flow_samples", _vector_samples, POTENTIAL_POINTS, 100, 60, 1, False),
]

assert {case.catalogue_name for case in SAMPLER_CASES} == set(SAMPLERS), "every catalogued sampler needs a case"
