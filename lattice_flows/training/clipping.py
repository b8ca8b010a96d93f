"""Clipping of gradients: as a whole at a fixed norm, or block by block at a multiple of the usual norm."""

from typing import Protocol

import torch
from torch import Tensor, nn

_MEMORY = 100.0  # steps over which the usual norm is averaged, once there are so many
_OUTLIER = 10.0  # times the usual norm: what a single step counts for at most


def parameter_blocks(flow: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters that one module holds itself, as a list per module; lists of parameters belong to their owner."""
    modules = dict(flow.named_modules())
    blocks: dict[str, list[nn.Parameter]] = {}
    for name, parameter in flow.named_parameters():
        owner = name.rpartition(".")[0]
        while isinstance(modules[owner], (nn.ParameterList, nn.ParameterDict)):
            owner = owner.rpartition(".")[0]
        blocks.setdefault(owner, []).append(parameter)
    return list(blocks.values())


class Clip(Protocol):
    """Clips the gradients in place. Nothing here waits for the device."""

    def __call__(self) -> Tensor:
        """Clip, and return the norm of the whole gradient before clipping, a number still on the device."""

    def state_dict(self) -> dict[str, Tensor]:
        """The state that a resume needs."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a state of the same flow."""


class NormClip(Clip):
    """Scales the whole gradient down to a fixed norm."""

    def __init__(self, flow: nn.Module, largest: float) -> None:
        self.parameters, self.largest = list(flow.parameters()), largest

    def __call__(self) -> Tensor:
        return torch.nn.utils.clip_grad_norm_(self.parameters, self.largest)

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        pass


class BlockClip(Clip):
    """Scales the gradient of each block down to `clip` times the running mean of its norm.

    A rare batch then moves no block by more than a usual one does, and a block whose gradient is large does not hold
    back the others.
    """

    def __init__(self, flow: nn.Module, clip: float) -> None:
        blocks = parameter_blocks(flow)
        device = blocks[0][0].device
        self.clip = clip
        self.parameters = [parameter for block in blocks for parameter in block]
        sizes = torch.tensor([len(block) for block in blocks], device=device)
        self.block_of = torch.repeat_interleave(torch.arange(len(blocks), device=device), sizes)  # (n_parameters,)
        self.usual = torch.zeros(len(blocks), dtype=torch.float64, device=device)  # norm of each block
        self.n_steps = 0

    def __call__(self) -> Tensor:
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        squares = torch.stack(torch._foreach_norm(gradients)).double().square()
        norms = torch.zeros_like(self.usual).index_add_(0, self.block_of, squares).sqrt()
        # Blocks behind a layer that starts at zero have no gradient at first: only a norm above zero is usual.
        known = torch.where(self.usual > 0, torch.minimum(norms, _OUTLIER * self.usual), norms)
        self.usual = self.usual.lerp(known, 1.0 / (1.0 + min(float(self.n_steps), _MEMORY)))
        self.n_steps += 1
        scale = (self.clip * self.usual / norms.clamp(min=1e-300)).clamp(max=1.0)
        torch._foreach_mul_(gradients, list(scale[self.block_of].unbind()))
        return norms.square().sum().sqrt()

    def state_dict(self) -> dict[str, Tensor]:
        return {"usual": self.usual, "n_steps": torch.tensor(self.n_steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.usual = state["usual"].to(self.usual.device)
        self.n_steps = int(state["n_steps"])
