"""Mixtures of logistic distributions on the real line."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lattice_flows.flows.line_transform import LineTransform, bounded, mirrored
from lattice_flows.flows.root import between, solved

_MAX_LOG_SCALE = 3.0  # of one map: a network's wild output far from its data does not overflow
_MAX_STEEPNESS = 1.5  # of a component, log; with the next two bounds no gap between components is flat to rounding
_MAX_MOVE = 2.0  # of a component, in widths
_OUTERMOST = 2.0  # centre, in widths: a normal deviate lies outside once in 20

_Components = tuple[Tensor, Tensor, Tensor, Tensor]  # log weights, centres, moves, log steepnesses: (n_components, ...)


class LogisticMixture(LineTransform):
    """y = w e^s logit(sum_k pi_k sigma(u_k)) + t, |s| < 3: the distribution function of a mixture of logistic ones.

    arXiv:1902.00275, but from latent to field: see `LogisticDensity`. A component is a dilation about its own centre,

        u_k = c_k + (x / w - c_k - m_k) e^(a_k),    |m_k| < 2, |a_k| < 1.5,

    with fixed c_k, equally spaced from -2 to 2. All of them are the identity at zero parameters, as they must be if the
    mixture is to be; but they answer differently to equal changes of a_k, and so become different. The first gradient
    at the identity is that of an affine map.

    Even: s, and the mirror-symmetric parts of the logits of pi and of a, and the antisymmetric part of m; odd: t and
    the other parts. Infinitely differentiable. The inverse is a search for roots. `width` is w.

    Raises ValueError for n_components outside 1 to 100.
    """

    smooth: ClassVar[bool] = True

    def __init__(self, n_components: int = 4, width: float = 1.0) -> None:
        if not 1 <= n_components <= 100:
            raise ValueError(f"a mixture has 1 to 100 components, got n_components = {n_components}")
        self.n_components, self.width = n_components, width
        self.n_pairs, self.n_halves = n_components // 2, (n_components + 1) // 2
        self.n_even = 1 + 2 * self.n_halves + self.n_pairs
        self.n_odd = 1 + 2 * self.n_pairs + self.n_halves

    def forward(self, x: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        logit, log_slope = _mixture(x / self.width, *self._components(even, odd))
        log_scale = bounded(even[0], _MAX_LOG_SCALE)
        return self.width * torch.exp(log_scale) * logit + odd[0], log_scale + log_slope

    def inverse(self, y: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        components, log_scale = self._components(even, odd), bounded(even[0], _MAX_LOG_SCALE)
        y = (y - odd[0]) * torch.exp(-log_scale) / self.width

        def excess(x: Tensor) -> tuple[Tensor, Tensor]:
            logit, log_slope = _mixture(x, *components)
            return logit - y, torch.exp(log_slope)

        # Each component alone has its own root; that of the mixture is among them.
        _, centres, moves, steepness = components
        roots = centres + moves + (y - centres) * torch.exp(-steepness)
        x = solved(excess, between(roots.amin(0), roots.amax(0)), "the inverse of a mixture of logistics")
        return self.width * x, -_mixture(x, *components)[1] - log_scale

    def _components(self, even: Tensor, odd: Tensor) -> _Components:
        """The mirror image of component k has the place of the k-th from the end, and the opposite move."""
        pairs, halves = self.n_pairs, self.n_halves
        logits_even, steep_even, moves_even = even[1:].split([halves, halves, pairs])
        logits_odd, steep_odd, moves_odd = odd[1:].split([pairs, pairs, halves])
        moves = bounded(mirrored(moves_odd, moves_even), _MAX_MOVE)
        steepness = bounded(mirrored(steep_even, steep_odd), _MAX_STEEPNESS)
        places = torch.arange(self.n_components, dtype=even.dtype, device=even.device).reshape(
            -1, *[1] * (even.ndim - 1)
        )
        spacing = 2.0 * _OUTERMOST / max(self.n_components - 1, 1)
        centres = spacing * (places - 0.5 * (self.n_components - 1))
        return torch.log_softmax(mirrored(logits_even, logits_odd), 0), centres, moves, steepness


class LogisticDensity(LineTransform):
    """The inverse of `LogisticMixture`: logistic deviates x of width w become y whose density is the mixture.

    The direction of arXiv:1902.00275. Two components make two separate peaks, which the mixture's own map from latent
    to field does not; but here every sample is a search for roots. Arguments and parameters are those of the mixture.
    """

    smooth: ClassVar[bool] = True

    def __init__(self, n_components: int = 4, width: float = 1.0) -> None:
        self.mixture = LogisticMixture(n_components, width)
        self.n_even, self.n_odd = self.mixture.n_even, self.mixture.n_odd

    def forward(self, x: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        return self.mixture.inverse(x, even, odd)

    def inverse(self, y: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        return self.mixture.forward(y, even, odd)


def _mixture(
    x: Tensor, log_weights: Tensor, centres: Tensor, moves: Tensor, steepness: Tensor
) -> tuple[Tensor, Tensor]:
    """The logit of the mixture's distribution function at x and the log of its derivative, both shaped like x."""
    u = centres + (x - centres - moves) * torch.exp(steepness)
    below = functional.logsigmoid(u)  # log sigma(u)
    above = below - u  # log(1 - sigma(u))
    log_f, log_g = torch.logsumexp(log_weights + below, 0), torch.logsumexp(log_weights + above, 0)
    log_density = torch.logsumexp(log_weights + steepness + below + above, 0)
    return log_f - log_g, log_density - log_f - log_g
