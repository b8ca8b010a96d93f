"""Random configurations of any space."""

import numpy as np
import torch
from torch import Tensor

from lattice_flows.lattice import Space


def random_field(space: Space, n: int, event: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """n hot configurations (n, *event)."""
    keys = torch.randint(2**62, (n,), generator=generator).numpy().astype(np.uint64)
    x, _ = space.hot(np.stack([keys, np.zeros_like(keys)], axis=1), event)
    return torch.from_numpy(x)
