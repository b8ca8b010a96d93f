"""Continuous normalizing flows: the field follows a velocity, and log_det is the integral of its divergence."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

from lattice_flows.flows.log_det_estimates import estimates_from
from lattice_flows.flows.plan import check_between
from lattice_flows.flows.refine import restore_steps, state_of_steps
from lattice_flows.flows.score import ScoredField, forward_with_score
from lattice_flows.flows.transform import Transform
from lattice_flows.lattice import REAL

Solver = Literal["euler", "midpoint", "rk4", "dopri5"]
Gradients = Literal["steps", "adjoint"]
State = tuple[Tensor, ...]
Rates = Callable[[Tensor, State], State]
Motion = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""v and div v at t and x, as `Velocity.velocity`."""

ORDERS = {"euler": 1, "midpoint": 2, "rk4": 4, "dopri5": 5}
_ADAPTIVE = ("dopri5",)
_MOST_STEPS = 1000
_MOST_ADAPTIVE_STEPS = 10_000
_ROUNDING = 10.0  # units in the last place: no tolerance can be smaller


class Velocity(nn.Module, ABC):
    """A velocity v(x, t) of fields x (B, *event), for t from 0 to 1, whose divergence is known."""

    estimates: bool = False
    """Whether steps of a training take `estimated`, see `estimated_log_dets`."""

    @abstractmethod
    def velocity(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """v, shaped like x, and div v (B,) at the time t, a number; in the dtype of x."""

    def estimated(self, x: Tensor, generator: torch.Generator) -> Motion:
        """`velocity` for one path that begins at x, its divergence replaced by an estimate without bias."""
        return self.velocity


class ContinuousTransform(Transform):
    """x(1) of dx/dt = v(x, t) with x(0) = z, and log_det = integral of div v (arXiv:1806.07366, eq. 8), by torchdiffeq.

    solver: "euler", "midpoint" or "rk4" take n_steps equal steps. "dopri5" chooses its steps for a whole batch, by the
    tolerance n_steps^-5, relative and absolute: so n_steps sets its accuracy as it does that of the others. The inverse
    is the flow backwards, and is off by as much; `error` is what `refine` has found, and infinite before.

    gradients: "steps" are those of the steps that were taken. "adjoint" integrates them backwards beside the field
    (arXiv:1806.07366, section 2), in memory that does not grow with the steps; they are gradients of no number that
    was computed, and late in a training, where they ought to vanish, their errors may make it diverge.

    Raises ValueError for an unknown solver or gradients, and for n_steps outside 1 to 1000; RuntimeError, in `forward`
    and `inverse`, where an adaptive solver does not arrive.
    """

    domain = codomain = REAL

    def __init__(
        self, velocity: Velocity, solver: Solver = "rk4", n_steps: int = 6, gradients: Gradients = "steps"
    ) -> None:
        super().__init__()
        check_solver(solver, n_steps, gradients)
        self.velocity, self.solver, self.gradients = velocity, solver, gradients
        self.n_steps, self.error = n_steps, math.inf

    @property
    def order(self) -> int:
        """The error falls as n_steps to the power -order."""
        return ORDERS[self.solver]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self._moved(z, backwards=False)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._moved(x, backwards=True)

    @property
    def estimates(self) -> bool:
        """Whether log_det is an estimate in steps of a training."""
        return self.velocity.estimates

    def _moved(self, field: Tensor, backwards: bool) -> tuple[Tensor, Tensor]:
        motion = self.motion_from(field)
        moved, log_det = self.integrated(
            lambda t, state: motion(t, state[0]), (field, field.new_zeros(len(field))), backwards
        )
        return moved, log_det

    def motion_from(self, field: Tensor) -> Motion:
        """The velocity and its divergence, or an estimate of that in a step of a training, on a path from `field`."""
        generator = estimates_from() if self.estimates else None
        return self.velocity.velocity if generator is None else self.velocity.estimated(field, generator)

    def integrated(self, rates: Rates, state: State, backwards: bool = False) -> State:
        """The state at t = 1 of d state / dt = rates(t, state) with this one at 0; backwards the other way round."""
        times = state[0].new_tensor([1.0, 0.0] if backwards else [0.0, 1.0])
        tolerance = max(self.n_steps ** -float(self.order), _ROUNDING * torch.finfo(times.dtype).eps)
        options: dict[str, Any] = {"method": self.solver, "rtol": tolerance, "atol": tolerance}
        if self.solver in _ADAPTIVE:
            options["options"] = {"max_num_steps": _MOST_ADAPTIVE_STEPS}
        else:
            options["options"] = {"grid_constructor": self._grid}
        try:
            if self.gradients == "adjoint":
                ends = odeint_adjoint(rates, state, times, adjoint_params=tuple(self.parameters()), **options)
            else:
                ends = odeint(rates, state, times, **options)
        except AssertionError as error:  # what torchdiffeq raises; its first words say what is wrong
            told = str(error).split(":")[0]
            raise RuntimeError(
                f"{type(self).__name__}: {self.solver} does not arrive with n_steps = {self.n_steps}, "
                f"a tolerance of {tolerance:.3g}: {told}"
            ) from None
        return tuple(path[-1] for path in ends)

    def _grid(self, rates: Rates, state: Tensor, times: Tensor) -> Tensor:
        ends = float(times[0]), float(times[-1])
        return torch.linspace(*ends, self.n_steps + 1, dtype=times.dtype, device=times.device)

    def get_extra_state(self) -> Tensor:
        """n_steps and the error."""
        return state_of_steps(self)

    def set_extra_state(self, state: Tensor) -> None:
        """What `get_extra_state` has given."""
        restore_steps(self, state)


@forward_with_score.register
def _(transform: ContinuousTransform, z: Tensor, score: Tensor) -> ScoredField:
    """The score s follows ds/dt = -(dv/dx)^T s - d div v / dx along the path (arXiv:2206.09016)."""
    velocity = transform.motion_from(z)

    def rates(t: Tensor, state: State) -> State:
        x, _, s = state
        traced = torch.is_grad_enabled() and x.requires_grad  # not on the way there, of the adjoint
        with torch.enable_grad():
            x = x if traced else x.detach().requires_grad_(True)
            v, divergence = velocity(t, x)
            (change,) = torch.autograd.grad((v * s.detach()).sum() + divergence.sum(), x, retain_graph=True)
        return v, divergence, -change

    z = z if z.requires_grad else z.detach().requires_grad_(True)
    x, log_det, moved = transform.integrated(rates, (z, z.new_zeros(len(z)), score))
    return ScoredField(x, log_det, moved.detach())


def check_solver(solver: str, n_steps: int, gradients: str) -> None:
    """Raise ValueError for an unknown solver or gradients, and for n_steps out of range."""
    if solver not in ORDERS:
        raise ValueError(f"solver must be one of {', '.join(ORDERS)}, got {solver!r}")
    if gradients not in ("steps", "adjoint"):
        raise ValueError(f'gradients must be "steps" or "adjoint", got {gradients!r}')
    check_between("n_steps", n_steps, 1, _MOST_STEPS)
