"""Direct draws at other couplings as a flow: a proposal with a known density and nothing to train."""

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.flows.flow import Flow
from lattice_flows.flows.plan import Ability, FlowPlan, building
from lattice_flows.flows.prior import Prior
from lattice_flows.flows.transform import Chain
from lattice_flows.lattice import Space
from lattice_flows.theories.action import Action, DirectSampler
from lattice_flows.theories.couplings import at_couplings


class DirectPrior(Prior):
    """The density of a theory that can be drawn directly, on configurations of shape `event`; computed on the CPU.

    Raises ValueError for a theory without a direct sampler.
    """

    def __init__(self, action: Action, event: tuple[int, ...]) -> None:
        super().__init__()
        self.direct, self.shape, self.space = direct_sampler_of(action), tuple(event), action.space

    def sample(self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        return self.drawn(drawn_streams(n, generator)).to(device=generator.device, dtype=dtype)

    def drawn(self, streams: NDArray[np.uint64]) -> Tensor:
        """A configuration for each random stream (n, 2), on the CPU."""
        return torch.from_numpy(self.direct.draw(self.shape, streams)[0])

    def log_prob(self, z: Tensor) -> Tensor:
        """The log density of z (B, *event) -> (B,), without derivatives."""
        log_q = self.direct.log_q(z.detach().double().cpu().numpy())
        return torch.from_numpy(log_q).to(device=z.device, dtype=z.dtype)


def direct_sampler_of(action: Action) -> DirectSampler:
    """The direct sampler. Raises ValueError for a theory without one."""
    direct = action.direct_sampler()
    if direct is None:
        raise ValueError(f"there is no direct sampler for {action}")
    return direct


def drawn_streams(n: int, generator: torch.Generator) -> NDArray[np.uint64]:
    """n random streams (n, 2) with keys from the generator."""
    keys = torch.randint(2**63 - 1, (n,), generator=generator, device=generator.device).cpu().numpy()
    return np.stack([keys.astype(np.uint64), np.zeros(n, np.uint64)], axis=1)


@dataclass(frozen=True)
class DirectDraws(FlowPlan):
    """Direct draws of the card's theory at other `couplings`, such as {beta = 5.5}: the identity after that density.

    The couplings that are not given are those of the card. There is nothing to train.

    Raises ValueError for couplings that the theory does not have, for a theory that cannot be drawn directly, and for a
    lattice on which it is not defined.
    """

    shape: tuple[int, ...]
    action: Action
    _: KW_ONLY
    couplings: dict[str, float]

    offers: ClassVar[frozenset[Ability]] = frozenset({"inverse"})

    def __post_init__(self) -> None:
        direct_sampler_of(self._source)
        self.action.event_shape(self.shape)

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.action.space

    @cached_property
    def _source(self) -> Action:
        """The theory that is drawn."""
        return at_couplings(self.action, self.couplings, "couplings")

    def assemble(self) -> Flow:
        """The density alone."""
        return Flow(DirectPrior(self._source, self.action.event_shape(self.shape)), Chain())


direct_draws = building(DirectDraws)
