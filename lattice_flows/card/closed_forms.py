"""Closed forms for the command `exact`."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import Any

from lattice_flows.card.arguments import arguments, built, checked
from lattice_flows.card.classes import check_theory_class
from lattice_flows.errors import InputError
from lattice_flows.theories.action import Action
from lattice_flows.theories.catalogue import THEORIES

_LONGEST, _LARGEST = 4096, 4096**2


def closed_forms(theory: str, couplings: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """The closed forms of the theory of this card name, on a lattice if it has one, () if not.

    What the oracle's method `as_dict` returns, or every number that it holds. Raises InputError for a theory,
    couplings or a lattice without them.
    """
    if theory not in THEORIES:
        raise InputError(f"there are no closed forms for {theory!r}; theories: {', '.join(sorted(THEORIES))}")
    constructor = THEORIES[theory]
    check_theory_class(constructor, "exact")
    model = arguments(constructor)
    missing = [key for key, field in model.model_fields.items() if field.is_required() and key not in couplings]
    if missing and not couplings.keys() - model.model_fields.keys():
        options = " ".join("--beta X" if key == "beta" else f"--coupling {key}=X" for key in missing)
        raise InputError(f"exact: {theory} needs {options}")
    action: Action = built(constructor, "exact", **checked(model, couplings, "exact"))
    _check_shape(theory, constructor, shape)
    built(action.event_shape, "exact", shape)
    oracle = action.closed_forms(shape)
    if oracle is None:
        known = type(action).closed_forms is not Action.closed_forms
        raise InputError(f"exact: there are no closed forms for {theory!r}" + (" at these couplings" if known else ""))
    return oracle.as_dict() if hasattr(oracle, "as_dict") else _numbers(oracle)


def _check_shape(theory: str, constructor: type[Action], shape: tuple[int, ...]) -> None:
    if 0 in constructor.dimensions and shape:
        raise InputError(f"--shape: {theory} has no lattice; leave it out")
    if 0 not in constructor.dimensions and not shape:
        sides = " ".join(["16"] * constructor.dimensions[0])
        raise InputError(f"exact: {theory} needs a lattice, such as --shape {sides}")
    given = " ".join(map(str, shape))
    if shape and len(shape) not in constructor.dimensions:
        known = " or ".join(map(str, constructor.dimensions))
        raise InputError(f"--shape {given}: {theory} is defined in {known} dimensions")
    if shape and (min(shape) < 2 or max(shape) > _LONGEST or math.prod(shape) > _LARGEST):
        raise InputError(
            f"--shape {given}: sides must be between 2 and {_LONGEST}, of at most {_LARGEST} sites together"
        )


def _numbers(oracle: Any) -> dict[str, float]:
    """The fields and properties that are numbers, in the order in which the oracle's class defines them."""
    names = [field.name for field in fields(oracle)] if is_dataclass(oracle) else []
    names += [name for name, value in vars(type(oracle)).items() if isinstance(value, (property, cached_property))]
    values = {name: getattr(oracle, name) for name in names if not name.startswith("_")}
    return {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
