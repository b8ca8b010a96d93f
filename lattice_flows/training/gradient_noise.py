"""The signal and the noise in a batch's gradient, estimated by means of Adam's running mean of it."""

import math

import torch
from torch import Tensor, nn

_EVERY = 10  # steps between two measurements
_MEMORY = 20.0  # measurements


class GradientNoise:
    """Running estimates of |E g|^2 and E|g - E g|^2 of a batch's clipped gradient g.

    With m Adam's mean of the gradients before, which is independent of g at nearly the same weights,

        E[g . m] = |E g|^2,   E|g - m|^2 = (1 + r) E|g - E g|^2,
        r = (1 - beta) (1 + beta^n) / [(1 + beta) (1 - beta^n)],

    after n steps. Measured at every tenth step; only `snr` waits for the device.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.squares = torch.zeros(2, dtype=torch.float64, device=parameters[0].device)  # of signal and noise
        self.n_measured = 0

    def measure(self, adam: torch.optim.Adam, n_steps: int) -> None:
        """Update the estimates with the current gradients, after n_steps steps of Adam."""
        if n_steps == 0 or n_steps % _EVERY:
            return
        beta = adam.param_groups[0]["betas"][0]
        used = [weight for weight in self.parameters if weight.grad is not None and weight in adam.state]
        gradients = [weight.grad for weight in used if weight.grad is not None]
        means = list(torch._foreach_div([adam.state[weight]["exp_avg"] for weight in used], 1.0 - beta**n_steps))
        apart = torch._foreach_sub(gradients, means)  # type: ignore[arg-type]  # it takes lists of tensors too
        g2, m2, d2 = (_square(tensors) for tensors in (gradients, means, apart))
        r = (1.0 - beta) * (1.0 + beta**n_steps) / ((1.0 + beta) * (1.0 - beta**n_steps))
        now = torch.stack([0.5 * (g2 + m2 - d2), d2 / (1.0 + r)])
        self.squares = self.squares.lerp(now, 1.0 / (1.0 + min(float(self.n_measured), _MEMORY)))
        self.n_measured += 1

    def snr(self) -> float | None:
        """|E g| / sqrt(E|g - E g|^2), 0 where the noise hides E g; None if nothing is known yet."""
        signal, noise = self.squares.tolist()
        return math.sqrt(max(signal, 0.0) / noise) if noise > 0 else None

    def state_dict(self) -> dict[str, Tensor]:
        """The state that a resume needs."""
        return {"squares": self.squares, "n_measured": torch.tensor(self.n_measured)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a state of the same flow."""
        self.squares = state["squares"].to(self.squares.device)
        self.n_measured = int(state["n_measured"])


def _square(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.stack(list(torch._foreach_norm(tensors))).double().square().sum()
