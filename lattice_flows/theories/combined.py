"""Weighted sums of actions: tempered targets, paths from one theory to another, terms of one action."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lattice_flows.ensembles import FieldSpec
from lattice_flows.lattice import Space
from lattice_flows.theories.action import Action, Array, Field, Shape, Streams
from lattice_flows.theories.collective import CollectiveVariable


@dataclass(frozen=True)
class Combined(Action):
    """S = sum_k weight_k S_k of actions of the same fields. It is computed term by term, each compiled where possible.

    The name and the start of its fields, its collective variables and first length are those of the first term.

    Raises ValueError for no terms, and for terms that live in different spaces.
    """

    terms: tuple[tuple[float, Action], ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise ValueError("a combined action needs one term or more")
        spaces = [action.space for _, action in self.terms]
        if any(space != spaces[0] for space in spaces):
            raise ValueError(f"the terms live in different spaces: {' and '.join(map(str, spaces))}")

    @property
    def _first(self) -> Action:
        return self.terms[0][1]

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self._first.space

    @property
    def collective_variables(self) -> Mapping[str, CollectiveVariable]:  # type: ignore[override]
        return self._first.collective_variables

    @property
    def first_length(self) -> float:  # type: ignore[override]
        return self._first.first_length

    def field(self, lattice_shape: Shape) -> FieldSpec:
        return self._first.field(lattice_shape)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.stack([weight * action(x) for weight, action in self.terms]).sum(0)

    def force(self, x: Tensor) -> Tensor:
        return torch.stack([weight * action.force(x) for weight, action in self.terms]).sum(0)

    def evaluate(self, x: Field) -> Array:
        return np.sum([weight * action.evaluate(x) for weight, action in self.terms], axis=0)

    def hot(self, streams: Streams, event: Shape) -> tuple[Field, Streams]:
        return self._first.hot(streams, event)

    def cold(self, event: Shape) -> Field:
        return self._first.cold(event)

    def refresh(self, x: Field, streams: Streams) -> tuple[Action, Streams]:
        """Every term refreshed."""
        terms = []
        for weight, action in self.terms:
            fresh, streams = action.refresh(x, streams)
            terms.append((weight, fresh))
        same = all(fresh is action for (_, fresh), (_, action) in zip(terms, self.terms))
        return (self if same else Combined(tuple(terms))), streams

    def scaled(self, factor: float) -> "Combined":
        return Combined(tuple((factor * weight, action) for weight, action in self.terms))
