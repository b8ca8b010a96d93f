"""Collective variables: one smooth function of a configuration, in which windows and biases can be placed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lattice_flows.kernels.molecular_dynamics import Couplings

Array = NDArray[np.float64]
Field = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class CollectiveVariable:
    """A function s(x) of a configuration, differentiable along the space of its variables.

    It raises ValueError for configurations on which it is not defined.
    """

    value: Callable[[Field], Array]
    """x (B, *event) -> s (B,)"""
    gradient: Callable[[Field], Array]
    """x (B, *event) -> ds/dx along the tangent, shaped like momenta"""
    symbol: str
    """In texts."""
    series: str = "collective_variable"
    """The name of its series in a file."""
    odd: bool = False
    """It changes sign under a symmetry of the theory."""
    kernel: Couplings | None = None
    """A NamedTuple with the bodies of `variable` and `pull` of `kernels.molecular_dynamics`: its compiled form."""
    reach: Callable[[Any, Shape], float | None] | None = None
    """How far from 0 windows or a bias should reach: action, event -> the largest s; None where nobody knows."""
