"""Molecular dynamics on torch fields."""

from torch import Tensor

from lattice_flows.actions import Action


def leapfrog(action: Action, x: Tensor, momenta: Tensor, step_size: float, n_md_steps: int) -> tuple[Tensor, Tensor]:
    """Position-first leapfrog of H = p^2/2 + S(x): the end of a trajectory, x not wrapped.

    x and momenta are (B, *event). The error of H is of order step_size^2 where the force is smooth.
    """
    drift = action.space.drift
    x = drift(x, momenta, 0.5 * step_size)
    for step in range(n_md_steps):
        momenta = momenta + step_size * action.force(x)
        x = drift(x, momenta, step_size if step < n_md_steps - 1 else 0.5 * step_size)
    return x, momenta
