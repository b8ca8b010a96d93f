"""A flow: a prior and the transform that maps it to the target."""

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from lattice_flows.flows.prior import Prior
from lattice_flows.flows.transform import Transform
from lattice_flows.lattice import Space


class FlowSample(NamedTuple):
    """Configurations x (B, *event), wrapped by their space, and their exact log density log_q (B,)."""

    x: Tensor
    log_q: Tensor


@final
class Flow(nn.Module):
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

    def sample(self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> FlowSample:
        """n fresh configurations, differentiable with respect to the parameters.

        The map and log_q are computed in `dtype`, whatever the type of the networks; only training uses float32.
        """
        return self.image(self.prior.sample(n, generator, dtype))

    def image(self, z: Tensor) -> FlowSample:
        """The configurations that latent ones z (B, *event) are mapped to."""
        x, log_det = self.transform.forward(z)
        return FlowSample(self.space.wrap(x), self.prior.log_prob(z) - log_det)

    def log_prob(self, x: Tensor) -> Tensor:
        """log q(x), (B,), in the dtype of x (B, *event); differentiable with respect to x."""
        z, log_det = self.transform.inverse(x)
        return self.prior.log_prob(z) + log_det
