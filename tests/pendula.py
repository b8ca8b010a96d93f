"""Independent pendula, S = strength sum_n (1 - cos x_n): a theory that says no more than it must."""

import math
from typing import NamedTuple

from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.elementary import wrap
from lattice_flows.kernels.molecular_dynamics import action, kick, store


class Pendula(NamedTuple):
    strength: float


@implements(action, Pendula)
def _action(couplings, x, shape, work):
    total = 0.0
    for k in range(x.size):
        total += 1.0 - math.cos(x[k])
    return couplings.strength * total


@implements(kick, Pendula)
def _kick(couplings, x, momenta, time, shape, work):
    for k in range(x.size):
        momenta[k] -= time * couplings.strength * math.sin(x[k])


@implements(store, Pendula)
def _store(couplings, end, x):
    for k in range(x.size):
        x[k] = wrap(end[k])
