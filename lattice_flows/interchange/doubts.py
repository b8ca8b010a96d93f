"""Doubts about imported configurations: what the theory knows exactly is compared with what they give.

Measured for 2D U(1): none of 2000 sound imports of 4 to 40 configurations was doubted, and none of 600 of 60 to 1200
by HMC at beta = 2 to 5, where the charge hardly moves. Exchanged directions were told in 17 of 20 imports of 40
configurations at beta = 2, and in all of 60 and more.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from scipy.stats import t as t_distribution

from lattice_flows.card.card import Card
from lattice_flows.ensembles import Ensemble, FieldSpec
from lattice_flows.interchange.axes import is_of_lattice
from lattice_flows.lattice import CIRCLE, REAL, TWO_PI
from lattice_flows.statistics import MIN_LENGTH, Estimate, count_crossings, derived, gamma_method, pull
from lattice_flows.theories.action import Action

_FAR = 8.0  # errors: beyond what a tau_int that is not well known explains
_LEAST_P = 1e-9  # of so large a pull with an error from so few configurations
_KNOWN = 0.25  # of n_eff: an error of slow chains, or of a charge that is hardly ever there, is no better known
_STEP = 1e-3  # of finite differences; of the second one 1e-6 is cut off, and 1e-9 is rounding
_FEWEST_PASSAGES = 8  # through its range, of a series whose error is believed
_DIGITS = 9  # of a charge, whose rounding is no motion
_MOST_LOOKED_AT = 4000  # configurations at which derivatives are taken

Chains = Sequence[np.ndarray]

IDENTITY = "<Laplacian S> - <|grad S|^2>"


class SchwingerDyson:
    """Collects Laplacian S - |grad S|^2 of configurations, whose mean is 0 in every theory on circles and real numbers.

    It holds since total derivatives of exp(-S) vanish, and so tells where nothing else is known. The Laplacian is
    estimated by the second difference of S along random signs (M. F. Hutchinson, Commun. Stat. Simul. 18 (1989) 1059),
    which is unbiased.
    """

    def __init__(self, action: Action, n_configs: int, n_chains: int) -> None:
        self._action = action
        self._applies = action.space in (CIRCLE, REAL)
        self._every = max(1, n_configs * n_chains // _MOST_LOOKED_AT)
        self._signs = np.random.default_rng(0)
        self._values: list[np.ndarray] = []
        self._seen = 0

    def add(self, x: np.ndarray) -> None:
        """The next configurations, (n, B, *event)."""
        chosen = x[-self._seen % self._every :: self._every]
        self._seen += len(x)
        if self._applies and len(chosen):
            flat = chosen.reshape(-1, *x.shape[2:])
            self._values.append(self._of(flat).reshape(chosen.shape[:2]))

    def _of(self, x: np.ndarray) -> np.ndarray:
        """Of each configuration of x (N, *event)."""
        step = _STEP * self._signs.choice([-1.0, 1.0], x.shape)
        there, here, back = (self._action.evaluate(x + k * step) for k in (1, 0, -1))
        force = self._action.force(torch.from_numpy(x)).numpy().reshape(len(x), -1)
        return (there - 2.0 * here + back) / _STEP**2 - np.square(force).sum(axis=1)

    def pull(self) -> float | None:
        """By how many errors the mean is off 0, where it is far off; else None."""
        chains = list(np.concatenate(self._values).T) if self._values else []
        return _far(gamma_method, [chains], 0.0) if chains and len(chains[0]) >= MIN_LENGTH else None


def pulls(ensemble: Ensemble, card: Card) -> dict[str, float]:
    """By how many errors the card's observables are off their closed forms, where they are far off, by name."""
    oracle, lattice_shape = card.theory.action.closed_forms(card.theory.shape), card.theory.shape
    found = {}
    for quantity in (one for m in card.measurements for one in m.observable.quantities(lattice_shape)):
        if quantity.exact is None or not (oracle or quantity.by_symmetry):
            continue
        exact, measured = quantity.exact(oracle), {term.series for term in quantity.terms} <= {*ensemble.series_names}
        if exact is None or not measured:
            continue
        terms = [[term.transform(chain) for chain in ensemble.series(term.series).T] for term in quantity.terms]
        estimate = partial(derived, quantity.function) if quantity.function else gamma_method
        if (off := _far(estimate, terms, exact, quantity.least_n_eff)) is not None:
            found[quantity.name] = off
    return found


def _far(
    estimate: Callable[..., Estimate], terms: Sequence[Chains], exact: float, least_n_eff: float = 2.0
) -> float | None:
    """The pull of an estimate, where it is far beyond what so few independent configurations explain; else None.

    What hardly moves does not know its error: `analyse` tells that it is frozen.
    """
    if min(count_crossings([np.round(chain, _DIGITS) for chain in chains]) for chains in terms) < _FEWEST_PASSAGES:
        return None
    try:
        found = estimate(*terms)
    except (ValueError, ZeroDivisionError):  # a ratio of nothing
        return None
    off = pull(found.value, float(np.fmax(found.error, found.block_error)), exact)
    if not (abs(off) > _FAR and found.n_eff > max(least_n_eff, 2.0)):
        return None
    return off if 2.0 * float(t_distribution.sf(abs(off), _KNOWN * found.n_eff)) < _LEAST_P else None


def warning(far: Mapping[str, float], reasons: Sequence[str]) -> str:
    """A line that tells what is far off, and what the reason may be; "" where nothing is."""
    if not far:
        return ""
    told = ", ".join(f"{name} ({off:+.0f})" for name, off in far.items())
    return f"far off what is exact in this theory, in errors: {told}. Likely reasons: {', '.join(reasons)}"


def reasons_of_fields(field: FieldSpec, largest_angle: float) -> list[str]:
    """Why fields may be far off. largest_angle: in the files, before angles were wrapped; 0 where none was."""
    reasons = ["other couplings", "not thermalised"]
    if sum(map(is_of_lattice, field.dims)) > 1:
        reasons.append(_order_of_axes(field))
    if largest_angle > 2.0 * TWO_PI:
        reasons.append(f"degrees in place of radians (angles up to {largest_angle:.0f})")
    return reasons


def _order_of_axes(field: FieldSpec) -> str:
    """The advice on axes, with the order to try where two of the lattice's are exchanged."""
    lattice = [axis for axis in field.dims if is_of_lattice(axis)]
    turned = [lattice[::-1][lattice.index(axis)] if axis in lattice else axis for axis in field.dims]
    return f"axes in another order (see --axes; such as config,chain,{','.join(turned)})"
