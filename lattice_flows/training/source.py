"""Where a training takes configurations from: data sets, buffers of the flow's own samples, chains."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lattice_flows.flows import Proposer
from lattice_flows.theories.action import Action


class Source(ABC):
    """Configurations to learn from, or to be judged by.

    Everything random comes from the generator that is handed in, whose state is in the checkpoint. What else a resume
    needs is in `state_dict`.
    """

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n configurations (n, *event); fewer where a source that is only judged by holds fewer."""

    def advance(
        self, flow: Proposer, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype
    ) -> Tensor | None:
        """Take in what n fresh samples of the flow, or n updates of its chains, bring; once before each draw.

        Returns the log weights of the fresh samples, (n,), where there are any.
        """
        return None

    def look(self, last: bool) -> None:  # noqa: B027
        """At each look at the training, the last one included: what may wait for the device."""

    def state_dict(self) -> dict[str, Tensor]:
        """What a resume needs beside the generator."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:  # noqa: B027  (most sources have no state)
        """Restore what `state_dict` returned."""


@dataclass(frozen=True)
class Drawn(Source):
    """The configurations that a function of n and the generator returns."""

    function: Callable[[int, torch.Generator], Tensor]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self.function(n, generator)
