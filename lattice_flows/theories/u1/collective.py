"""The smooth charge as a collective variable of 2D U(1)."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lattice_flows.theories.collective import CollectiveVariable
from lattice_flows.theories.u1.kernels import biased_hmc

Array = NDArray[np.float64]

_LEAST_PLAQUETTE = 0.2  # near beta = 0 there are no sectors, and Q_s is of order one all the same
_REACH = 3.5  # standard deviations of the charge


def _value(links: Array) -> Array:
    _require_2d(links)
    return biased_hmc.smooth_charge(np.ascontiguousarray(links))


def _gradient(links: Array) -> Array:
    """dQ_s/dtheta_mu(n) = sum_nu [ cos P_munu(n) - cos P_munu(n - nu) ] / 2 pi."""
    _require_2d(links)
    t0, t1 = links[:, 0], links[:, 1]  # (B, L0, L1)
    cosines = np.cos(t0 + np.roll(t1, -1, axis=1) - np.roll(t0, -1, axis=2) - t1) / (2.0 * np.pi)
    return np.stack([cosines - np.roll(cosines, 1, axis=2), np.roll(cosines, 1, axis=1) - cosines], axis=1)


def _require_2d(links: Array) -> None:
    if links.ndim != 4 or links.shape[1] != 2:
        raise ValueError(
            f"the smooth charge is one of two dimensions, got configurations of shape {list(links.shape[1:])}"
        )


def charge_reach(action: Any, event: tuple[int, ...]) -> float | None:
    """The mean Q_s of the sector 3.5 standard deviations of the charge away, at the least; None without closed forms.

    Sector Q has its Q_s about Q <cos P>. A grid must end in the middle of a sector: outside of it V is constant, so one
    that ended on a barrier would leave a deep valley beyond it.
    """
    exact = action.closed_forms(event[1:])
    if exact is None:
        return None
    return max(1, math.ceil(_REACH * math.sqrt(exact.charge_squared))) * max(exact.plaquette, _LEAST_PLAQUETTE)


SMOOTH_CHARGE = CollectiveVariable(
    _value,
    _gradient,
    symbol="Q_s",
    series="smooth_charge",
    odd=True,
    kernel=biased_hmc.SmoothCharge(),
    reach=charge_reach,
)
"""Q_s = (1/2 pi) sum_P sin P of 2D U(1) links, a differentiable stand-in for the topological charge."""

COLLECTIVE = {"smooth_charge": SMOOTH_CHARGE}
