"""Whether transforms may estimate log_det at random: inside a step of the training, and nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch

_generator: torch.Generator | None = None


@runtime_checkable
class Estimating(Protocol):
    """A transform that would estimate its log_det in a step of the training, where `estimates` is True."""

    estimates: bool


@contextmanager
def estimated_log_dets(generator: torch.Generator | None) -> Iterator[None]:
    """Let log_det be estimates without bias inside the block, from random numbers of this generator (None: exact).

    Weights are exponentials of log_det, of which an estimate without bias makes biased ones: no evaluation, accept step
    or latent action may use them, and in the training only losses that are linear in log_det.
    """
    global _generator
    before, _generator = _generator, generator
    try:
        yield
    finally:
        _generator = before


def estimates_from() -> torch.Generator | None:
    """The generator of estimates, or None where log_det is to be exact."""
    return _generator
