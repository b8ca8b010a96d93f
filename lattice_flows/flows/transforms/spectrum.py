"""Linear maps of lattice fields by momenta: learnt spectra, and the free field's."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lattice_flows.flows.fourier_scaling import MOST_KNOTS, FourierScaling, OrbitSpectrum, SmoothSpectrum
from lattice_flows.flows.phi4_prior import FreeFieldPrior
from lattice_flows.flows.plan import check_between
from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.transform import Transform
from lattice_flows.flows.transforms.plan import Fields, TransformPlan, check_lattice, check_real
from lattice_flows.lattice import REAL
from lattice_flows.theories.phi4.action import LocalScalar


class FreeFieldLayer(Transform):
    """x(k) = z(k) / sqrt(2 hop (phat^2 + m^2)): white noise becomes the free field of the learnt m^2, which begins at
    `mass_squared`. See `FreeFieldPrior`, the prior that is this map of white noise.

    Raises ValueError for mass_squared or hop not above 0.
    """

    domain = codomain = REAL

    def __init__(self, shape: tuple[int, ...], mass_squared: float, hop: float) -> None:
        super().__init__()
        self.free = FreeFieldPrior(shape, mass_squared, hop, learnable=True)

    def initialise(self, generator: torch.Generator) -> None:
        """Reset the mass."""
        for weight in self.parameters():
            nn.init.zeros_(weight)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.free.coloured(z), self._log_det(z)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.free.whitened(x), -self._log_det(x)

    def _log_det(self, field: Tensor) -> Tensor:
        return -0.5 * torch.log(2.0 * self.free.eigenvalues()).sum().to(field.dtype).expand(len(field))


@forward_with_score.register
def _(transform: FreeFieldLayer, z: Tensor, score: Tensor) -> ScoredField:
    """A symmetric Jacobian that is the same everywhere: the score goes through its inverse."""
    return ScoredField(*transform.forward(z), transform.free.whitened(score).detach())


@dataclass(frozen=True)
class SpectrumPlan(TransformPlan):
    """A periodic convolution, whose Fourier transform is learnt and positive; see `FourierScaling`.

    It has one number for every orbit of momenta under reflections and exchanges of equal sides, the lattice's own; with
    `n_knots` a smooth function of phat^2, whose weights fit any lattice. Each channel has its own.

    Raises ValueError for n_knots out of range.
    """

    n_knots: int | None = None

    def __post_init__(self) -> None:
        if self.n_knots is not None:
            check_between("n_knots", self.n_knots, 2, MOST_KNOTS)

    def check(self, fields: Fields) -> None:
        """Raise ValueError for fields that are no real numbers on a lattice."""
        check_real(fields)
        if not fields.sites:
            raise ValueError(f"needs a lattice, which has momenta, got {fields}")

    def assemble(self, fields: Fields) -> Transform:
        """The convolution on this lattice."""
        sites, n_knots = fields.sites, self.n_knots
        spectrum = OrbitSpectrum(sites) if n_knots is None else SmoothSpectrum(sites, n_knots)
        return FourierScaling(sites, spectrum, fields.channels)


@dataclass(frozen=True)
class FreeFieldPlan(TransformPlan):
    """The free field of a learnt mass from white noise: a first layer after prior = "gaussian"; see `FreeFieldLayer`.

    It has the action's hopping term; its mass squared begins at `mass_squared`.

    Raises ValueError for a mass_squared out of range.
    """

    mass_squared: float = 1.0

    def __post_init__(self) -> None:
        if not 1e-6 <= self.mass_squared <= 1e6:
            raise ValueError(f"mass_squared must be between 1e-06 and 1e+06, got {self.mass_squared}")

    def check(self, fields: Fields) -> None:
        """Raise ValueError for theories other than phi^4."""
        check_lattice(fields)
        if not isinstance(fields.action, LocalScalar):
            raise ValueError(f"is one of phi4 and phi4_hopping, got {type(fields.action).__name__}")

    def assemble(self, fields: Fields) -> Transform:
        """The layer on this lattice."""
        assert isinstance(fields.action, LocalScalar)
        return FreeFieldLayer(fields.sites, self.mass_squared, fields.action.couplings(len(fields.sites)).hop)
