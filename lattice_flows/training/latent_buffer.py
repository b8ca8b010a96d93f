"""A buffer of configurations that move by Markov chains in the flow's latent space."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.flows import Flow, LatentAction, Proposer
from lattice_flows.lattice import Space
from lattice_flows.theories.action import Action
from lattice_flows.training.ranks import ALONE, Ranks
from lattice_flows.training.source import Source

_DECADES = 2.0  # that the times of short moves cover
_LONG = 0.5  # of the moves take the longest time


class Move(NamedTuple):
    """What is random in one Metropolis move of n configurations."""

    momenta: Tensor
    """(n, *event of the tangent), standard normal"""
    time: Tensor
    """(n,), of free motion"""
    log_u: Tensor
    """(n,), logarithms of uniform numbers"""


class LatentBuffer(Source):
    """Configurations that a Boltzmann generator learns from while it moves them (Noe et al., Science 365 (2019)
    eaaw1147).

    Before each batch n of the `size` configurations x, chosen at random, go to the latent space of the flow as it is,
    make `n_moves` Metropolis moves there on the pulled-back target, and come back: a short step in latent space is a
    long one between modes. Latent configurations are never stored. With a fixed flow the moves keep the density
    exp(-S)/Z exactly. While the flow learns from the configurations that it moves, the buffer is only about
    distributed so: it is for training, and no average is to be taken from it.

    A move is free motion with fresh momenta for a time that is `longest` for half of them, and for the others
    distributed evenly in its logarithm over two decades below. Of a Gaussian prior, which moves as an oscillator,
    pi / 2 is an independent configuration of the prior.

    data: fills the buffer, before the first move; a few configurations of each mode are enough, in any shares.
    Several ranks hold the same buffer, and each moves its share. Raises ValueError for a size, a number of moves or a
    longest time that is not positive.
    """

    def __init__(self, data: Source, size: int, n_moves: int, longest: float, ranks: Ranks = ALONE) -> None:
        if size < 1 or n_moves < 1 or not 0 < longest < math.inf:
            raise ValueError(
                f"size, n_moves and longest must be positive and finite, got {size}, {n_moves} and {longest}"
            )
        self.data, self.size, self.n_moves, self.longest, self.ranks = data, size, n_moves, longest, ranks
        self.x: Tensor | None = None  # (size, *event), in double precision

    def advance(self, flow: Proposer, action: Action, n: int, generator: torch.Generator, dtype: torch.dtype) -> None:
        """Move n of the configurations, or all if there are fewer. Raises ValueError for a flow without an inverse."""
        if not isinstance(flow, Flow):
            raise ValueError(f"moves in latent space need a flow with an inverse, not {type(flow).__name__}")
        x = self._filled(generator)
        at = torch.randperm(len(x), generator=generator, device=generator.device)[:n]
        target, n_now = LatentAction(action, flow, 0.0), len(at)
        own = self.ranks.rows(n_now)
        moves = self._moves(target.space, n_now, tuple(x.shape[1:]), generator)
        with torch.no_grad():
            moved = moved_in_latent_space(target, x[at][own], (Move(*(part[own] for part in move)) for move in moves))
            x[at] = self.ranks.gathered(moved, n_now)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n of the configurations, with equal probabilities, (n, *event)."""
        x = self._filled(generator)
        return x[torch.randint(len(x), (n,), generator=generator, device=generator.device)]

    def state_dict(self) -> dict[str, Tensor]:
        """The configurations; nothing before there are any."""
        return {} if self.x is None else {"x": self.x}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore them."""
        self.x = state["x"].clone() if state else None

    def _filled(self, generator: torch.Generator) -> Tensor:
        if self.x is None:
            self.x = self.data.draw(self.size, generator)
        self.x = self.x.to(device=generator.device, dtype=torch.float64)
        return self.x

    def _moves(self, space: Space, n: int, event: tuple[int, ...], generator: torch.Generator) -> Iterator[Move]:
        """Drawn one after the other, by all ranks alike."""

        def uniform() -> Tensor:
            return torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)

        for _ in range(self.n_moves):
            shape = (n, *space.tangent_event(event))
            momenta = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)
            short = 10.0 ** (-_DECADES * uniform())
            time = self.longest * torch.where(uniform() < _LONG, 1.0, short)
            yield Move(momenta, time, torch.log(uniform()))


def moved_in_latent_space(target: LatentAction, x: Tensor, moves: Iterable[Move]) -> Tensor:
    """Where Metropolis moves in latent space take configurations x (n, *event); those that stay keep their bits.

    Free motion for a given time with Gaussian momenta can be taken back and keeps volumes, so the test
    min(1, exp(-Delta (S' + p^2 / 2))) keeps exp(-S'): HMC without kicks.
    """
    if len(x) == 0:  # of more ranks than configurations; what is random is drawn all the same
        for _ in moves:
            pass
        return x
    space = target.space
    y = target.origin(x)
    action = target.image(y).action
    for momenta, time, log_u in moves:
        end, p = space.drift(y, momenta, time.view(-1, *[1] * (y.ndim - 1)))
        end = space.wrap(end)
        image = target.image(end)
        accepted = log_u < action + space.kinetic(momenta) - image.action - space.kinetic(p)  # never for nan
        rows = accepted.view(-1, *[1] * (y.ndim - 1))
        y, x = torch.where(rows, end, y), torch.where(rows, image.x, x)
        action = torch.where(accepted, image.action, action)
    return x
