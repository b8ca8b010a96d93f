"""What makes configurations with a known density: a prior, and what it goes through on its way to the target."""

from abc import ABC, abstractmethod
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from lattice_flows.flows.prior import Prior
from lattice_flows.flows.transform import Transform
from lattice_flows.lattice import Space


class FlowSample(NamedTuple):
    """Configurations x (B, *event), wrapped by their space, and their exact log density log_q (B,).

    Of a path with random steps log_q is the log density of the path less that of the path backwards, given x.
    """

    x: Tensor
    log_q: Tensor


class Proposer(nn.Module, ABC):
    """Configurations x of latent ones z ~ prior, with a log q for which exp(-S(x) - log q) has the mean Z.

    What is random on the way from z to x is drawn beforehand, as `noise`: everything is a function of z and the noise.
    """

    prior: Prior

    @property
    @abstractmethod
    def space(self) -> Space:
        """Where x lives."""

    def noise(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """What is random on n ways beside z, tensors of n rows; () where nothing is."""
        return ()

    @abstractmethod
    def image(self, z: Tensor, *noise: Tensor) -> FlowSample:
        """What latent configurations z (B, *event) are mapped to."""

    @abstractmethod
    def path_log_q(self, x: Tensor, *noise: Tensor) -> Tensor:
        """log q of x (B, *event), (B,), in the dtype of x; of a way to x that is drawn backwards where it is random."""

    @final
    def latents(self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """Everything random in n samples, tensors of n rows: z, and the noise."""
        return self.prior.sample(n, generator, dtype), *self.noise(n, generator)

    @final
    def sample(self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> FlowSample:
        """n fresh configurations, differentiable with respect to the parameters.

        The map and log_q are computed in `dtype`, whatever the type of the networks; only training uses float32.
        """
        return self.image(*self.latents(n, generator, dtype))


@final
class Flow(Proposer):
    """The density of x = f(z), z ~ prior: log q(x) = log r(z) - log|det dx/dz|.

    Raises ValueError for a transform of another space than the prior's.
    """

    def __init__(self, prior: Prior, transform: Transform) -> None:
        super().__init__()
        if transform.domain is not None and transform.domain != prior.space:
            raise ValueError(f"the prior is one of {prior.space}, but its transform maps {transform.domain}")
        self.prior = prior
        self.transform = transform

    @property
    def space(self) -> Space:
        """Where x lives."""
        return self.transform.codomain or self.prior.space

    def image(self, z: Tensor, *noise: Tensor) -> FlowSample:
        """The configurations that latent ones z (B, *event) are mapped to."""
        x, log_det = self.transform.forward(z)
        return FlowSample(self.space.wrap(x), self.prior.log_prob(z) - log_det)

    def log_prob(self, x: Tensor) -> Tensor:
        """log q(x), (B,), in the dtype of x (B, *event); differentiable with respect to x."""
        z, log_det = self.transform.inverse(x)
        return self.prior.log_prob(z) + log_det

    def path_log_q(self, x: Tensor, *noise: Tensor) -> Tensor:
        """log_prob."""
        return self.log_prob(x)
