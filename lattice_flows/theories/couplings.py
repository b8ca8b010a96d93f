"""A theory at other couplings."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TypeVar

from lattice_flows.theories.action import Action

A = TypeVar("A", bound=Action)


def at_couplings(action: A, couplings: Mapping[str, float], key: str) -> A:
    """The action with these couplings in place of its own; those not given stay.

    Raises ValueError, beginning with `key`, for couplings that the theory does not have, and what the theory raises.
    """
    known = [field.name for field in fields(action)]  # type: ignore[arg-type]
    if unknown := [name for name in couplings if name not in known]:
        raise ValueError(f"{key}: there is no {unknown[0]!r} in this theory; available: {', '.join(known)}")
    return replace(action, **couplings)  # type: ignore[type-var]
