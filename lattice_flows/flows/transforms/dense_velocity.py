"""A network as the velocity of a continuous flow, for vectors of a few variables."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from lattice_flows.flows.plan import check_between, check_widths
from lattice_flows.flows.transform import Transform
from lattice_flows.flows.transforms.continuous import (
    ContinuousTransform,
    Gradients,
    Motion,
    Solver,
    Velocity,
    check_solver,
)
from lattice_flows.flows.transforms.plan import Fields, TransformPlan, check_real

_MOST_PROBES = 1000


class DenseVelocity(Velocity):
    """v(x, t) is a network of tanh layers of widths `hidden`, in units of `width`, of the n variables and t.

    It is bounded, so that no field runs away, and 0 to begin with. Its divergence is exact: derivatives along all n
    variables are carried through the layers, which costs n times the network. With n_probes, steps of a training carry
    those along so many random signs e, and estimate it by the mean of e dv/dx e (arXiv:1810.01367).
    """

    def __init__(self, n: int, width: float, hidden: tuple[int, ...], n_probes: int | None = None) -> None:
        super().__init__()
        self.width, self.n_probes, self.estimates = width, n_probes, n_probes is not None
        widths = [n, *hidden, n]
        self.weights = nn.ParameterList([torch.zeros(n_out, n_in) for n_in, n_out in pairwise(widths)])
        self.biases = nn.ParameterList([torch.zeros(n_out) for n_out in widths[1:]])
        self.of_time = nn.Parameter(torch.zeros(hidden[0]))

    def initialise(self, generator: torch.Generator) -> None:
        """Redraw the weights and biases: variance 1/n_in, the last layer zero."""
        with torch.no_grad():
            for weight, bias in zip(self.weights[:-1], self.biases[:-1]):
                for numbers in (weight, bias):
                    numbers.normal_(0.0, 1.0 / math.sqrt(weight.shape[1]), generator=generator)
            self.of_time.normal_(generator=generator)
            self.weights[-1].zero_()
            self.biases[-1].zero_()

    def velocity(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        every = torch.eye(math.prod(x.shape[1:]), dtype=x.dtype, device=x.device)
        v, changes = self._along(t, x, every)
        return v, changes.diagonal(dim1=1, dim2=2).sum(1)

    def estimated(self, x: Tensor, generator: torch.Generator) -> Motion:
        """`velocity` with an estimate of the divergence, by random signs that stay the same along the path."""
        size = (len(x), self.n_probes or 1, math.prod(x.shape[1:]))
        signs = 2.0 * torch.randint(2, size, generator=generator, device=x.device).to(x.dtype) - 1.0

        def velocity(t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            v, changes = self._along(t, x, signs)
            return v, (signs * changes).sum(2).mean(1)

        return velocity

    def _along(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """v, and its derivatives along `directions` (n, n) or (B, n_directions, n): (B, n_directions, n)."""
        y, changes = x.flatten(1) / self.width, directions
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            weight, bias = weight.to(x.dtype), bias.to(x.dtype)
            if layer:
                y = torch.tanh(y)
                changes = changes * (1.0 - y * y).unsqueeze(1)
            else:
                bias = bias + t * self.of_time.to(x.dtype)
            y, changes = torch.addmm(bias, y, weight.T), changes @ weight.T
        return self.width * y.view_as(x), changes


@dataclass(frozen=True)
class ContinuousPlan(TransformPlan):
    """A `ContinuousTransform` along a `DenseVelocity`: a continuous flow of vectors of a few variables.

    It knows no symmetry, and begins as the identity. n_probes: of an estimate of the divergence in steps of the
    training; weights are always exact. n_steps: of a training that begins, see `refine`.
    """

    hidden: tuple[int, ...] = (32, 32)
    n_probes: int | None = None
    solver: Solver = "rk4"
    n_steps: int = 6
    gradients: Gradients = "steps"

    integrated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_widths(self.hidden, fewest=1)
        if self.n_probes is not None:
            check_between("n_probes", self.n_probes, 1, _MOST_PROBES)
        check_solver(self.solver, self.n_steps, self.gradients)

    def check(self, fields: Fields) -> None:
        """Raise ValueError for other variables than real numbers."""
        check_real(fields)

    def assemble(self, fields: Fields) -> Transform:
        """The flow, its weights in any state."""
        velocity = DenseVelocity(fields.n, fields.width, tuple(self.hidden), self.n_probes)
        return ContinuousTransform(velocity, self.solver, self.n_steps, self.gradients)
