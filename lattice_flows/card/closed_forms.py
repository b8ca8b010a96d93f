"""Closed forms for the command `exact`."""

from typing import Any

from lattice_flows.errors import InputError
from lattice_flows.theories.u1.closed_forms import ExactU1

_SMALLEST_PROBABILITY = 1e-6


def closed_forms(theory: str, beta: float, shape: tuple[int, int]) -> dict[str, Any]:
    """Plaquette, Wilson loops, charge moments, P(Q) and log Z. Raises InputError for a theory or value without them."""
    if theory != "u1":
        raise InputError(f"there are no closed forms for {theory!r}; available: u1")
    if min(shape) < 2 or max(shape) > 4096:
        raise InputError(f"--shape {shape[0]} {shape[1]}: both sides must be between 2 and 4096")
    n_sites = shape[0] * shape[1]
    try:
        oracle = ExactU1(beta, n_sites)
    except ValueError as error:
        raise InputError(f"--beta: {error}") from None
    q_max = max(1, min(n_sites // 2, int(8.0 * oracle.charge_squared**0.5) + 1))
    probabilities = zip(range(-q_max, q_max + 1), oracle.charge_distribution(q_max))
    areas = [area for area in (1, 2, 4, 9) if area <= n_sites]
    return {
        "plaquette": oracle.plaquette,
        **{f"wilson_loop_area_{area}": oracle.wilson_loop(area) for area in areas},
        "topological_charge_squared": oracle.charge_squared,
        "topological_susceptibility": oracle.susceptibility,
        "log_z": oracle.log_z,
        "charge_distribution": {str(q): float(p) for q, p in probabilities if p > _SMALLEST_PROBABILITY},
    }
