"""The processes of one training: each has its share of every batch, and the results are summed.

Every process draws the random numbers of the whole batch and keeps its own rows. So the samples of a training do not
depend on the number of processes, even if it is resumed on another number; only sums are rounded differently.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")

_PATIENCE = timedelta(minutes=10)  # with a process that is silent; one that ended is noticed at once


class RankLost(RuntimeError):
    """Another process of the training ended or is silent. The last checkpoint is sound."""

    def __init__(self, found: BaseException) -> None:
        text = re.sub(r"^\[[^]]*\]\s*", "", str(found).strip())  # without the line of gloo's source
        text = re.split(r"\. |\n", text)[0]
        super().__init__(
            "another process of this training was lost; what was saved is sound, run the same command again "
            f"(rank {launched_ranks().rank}: {text})"
        )


class LaunchError(ValueError):
    """The environment variables are not as torchrun sets them."""


class TooManyRanks(ValueError):
    """A batch has too few rows to be shared by so many processes."""


class FailedOnFirstRank(Exception):
    """The first process failed and reports why."""


@dataclass(frozen=True)
class Ranks:
    """This process among `size` equal ones. All of them call the same methods in the same order.

    Every method raises RankLost where another process is gone.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def rows(self, n: int) -> slice:
        """This process's share of n rows; shares are contiguous and equal up to one."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def gathered(self, own: Tensor, n: int) -> Tensor:
        """The n rows of which each process holds its share, (n, ...), in double precision where there are several."""
        if self.size == 1:
            return own
        whole = torch.zeros((n, *own.shape[1:]), dtype=torch.float64, device=own.device)
        whole[self.rows(n)] = own.double()
        _summed(whole)
        return whole

    def sum_gradients(self, parameters: list[nn.Parameter], loss: Tensor) -> Tensor:
        """Sum the gradients over all processes, in place; returns the sum of the losses. Does not wait for the device.

        The sum is in double precision: its order then hardly ever shows in a single-precision gradient.
        """
        if self.size == 1:
            return loss
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([part.reshape(-1).double() for part in (*gradients, loss)])
        _summed(flat)
        *sums, total = flat.split([gradient.numel() for gradient in gradients] + [1])
        torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(sums, gradients)])
        return total[0].to(loss.dtype)

    def agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The first process's clock, and whether any process was asked to stop. On the host: no device waits."""
        if self.size == 1:
            return seconds, stop
        seen = torch.tensor([seconds if self.is_first else 0.0, float(stop)], dtype=torch.float64)
        _summed(seen)
        return float(seen[0]), bool(seen[1] > 0)

    def of_first(self, f: Callable[[], T]) -> T:
        """f(), called by the first process alone; the others receive what it returns.

        If it raises, the first process raises the same error and the others FailedOnFirstRank. Files are read and
        claimed in this way: on a shared disk other nodes may see a new file seconds later.
        """
        if self.size == 1:
            return f()
        told: list[Any] = [None, True]  # what f returned, and whether it failed
        try:
            if self.is_first:
                told = [f(), False]
        finally:
            with _lost_if_broken():
                dist.broadcast_object_list(told, 0)
        result, failed = told
        if failed:
            raise FailedOnFirstRank
        return result

    def wait(self) -> None:
        """Wait until all processes have reached this point."""
        self.agree(0.0, False)


ALONE = Ranks()


def launched_ranks() -> Ranks:
    """This process's place as torchrun set it in the environment; alone where it did not. Raises LaunchError."""
    try:
        ranks = Ranks(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    except ValueError:
        raise LaunchError("RANK and WORLD_SIZE in the environment are not numbers; torchrun sets them") from None
    if not 0 <= ranks.rank < ranks.size:
        raise LaunchError(f"RANK = {ranks.rank} is not one of WORLD_SIZE = {ranks.size} processes; torchrun sets them")
    return ranks


@contextmanager
def joined(ranks: Ranks) -> Iterator[Ranks]:
    """Connect the processes: gloo between the hosts' memories, NCCL between GPUs if there are any."""
    if ranks.size == 1:
        yield ranks
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        with _lost_if_broken():
            dist.init_process_group(backend, timeout=_PATIENCE)
    except ValueError as error:  # RANK and WORLD_SIZE are set, and not the rest
        raise LaunchError(f"start several processes with torchrun: {error}") from None
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def _summed(x: Tensor) -> None:
    with _lost_if_broken():
        dist.all_reduce(x)


@contextmanager
def _lost_if_broken() -> Iterator[None]:
    """Raise RankLost for a closed connection, which torch reports by several types, all of them RuntimeErrors."""
    try:
        yield
    except torch.OutOfMemoryError:  # our own
        raise
    except RuntimeError as error:
        raise RankLost(error) from error
