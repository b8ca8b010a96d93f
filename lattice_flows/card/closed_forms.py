"""Closed forms for the command `exact`."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import Any

from lattice_flows.card.arguments import arguments, built, checked
from lattice_flows.errors import InputError
from lattice_flows.theories.action import Action
from lattice_flows.theories.catalogue import THEORIES
from lattice_flows.theories.u1.closed_forms import ExactU1

_SMALLEST_PROBABILITY = 1e-6


def closed_forms(theory: str, couplings: Mapping[str, Any], shape: tuple[int, int] | None) -> dict[str, Any]:
    """The closed forms of the theory of this card name, on a lattice if it has one.

    In 2D U(1): plaquette, Wilson loops, charge moments, P(Q) and log Z; elsewhere every number that the theory's oracle
    holds. Raises InputError for a theory, couplings or a lattice without them.
    """
    if theory not in THEORIES:
        raise InputError(f"there are no closed forms for {theory!r}; available: {', '.join(sorted(THEORIES))}")
    constructor = THEORIES[theory]
    action: Action = built(constructor, "exact", **checked(arguments(constructor), couplings, "exact"))
    _check_shape(theory, constructor, shape)
    built(action.event_shape, "exact", shape or ())
    oracle = action.closed_forms(shape or ())
    if oracle is None:
        raise InputError(f"exact: there are no closed forms for {theory!r} at these couplings")
    return _of_u1(oracle) if isinstance(oracle, ExactU1) else _numbers(oracle)


def _check_shape(theory: str, constructor: type[Action], shape: tuple[int, int] | None) -> None:
    if 0 in constructor.dimensions and shape is not None:
        raise InputError(f"--shape: {theory} has no lattice; leave it out")
    if 0 not in constructor.dimensions and shape is None:
        raise InputError(f"exact: {theory} needs a lattice, such as --shape 16 16")
    if shape is not None and (min(shape) < 2 or max(shape) > 4096):
        raise InputError(f"--shape {shape[0]} {shape[1]}: both sides must be between 2 and 4096")


def _of_u1(oracle: ExactU1) -> dict[str, Any]:
    q_max = max(1, min(oracle.n_sites // 2, int(8.0 * oracle.charge_squared**0.5) + 1))
    probabilities = zip(range(-q_max, q_max + 1), oracle.charge_distribution(q_max))
    areas = [area for area in (1, 2, 4, 9) if area <= oracle.n_sites]
    return {
        "plaquette": oracle.plaquette,
        **{f"wilson_loop_area_{area}": oracle.wilson_loop(area) for area in areas},
        "topological_charge_squared": oracle.charge_squared,
        "topological_susceptibility": oracle.susceptibility,
        "log_z": oracle.log_z,
        "charge_distribution": {str(q): float(p) for q, p in probabilities if p > _SMALLEST_PROBABILITY},
    }


def _numbers(oracle: Any) -> dict[str, float]:
    """The fields and properties that are numbers, in the order in which the oracle's class defines them."""
    names = [field.name for field in fields(oracle)] if is_dataclass(oracle) else []
    names += [name for name, value in vars(type(oracle)).items() if isinstance(value, (property, cached_property))]
    values = {name: getattr(oracle, name) for name in names if not name.startswith("_")}
    return {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
