"""What identifies a chain: its numbers. One that was given twice is found, also in another precision."""

import hashlib
import math

import numpy as np

from lattice_flows.lattice import CIRCLE, Space
from lattice_flows.statistics.shared_values import shared_values

_SAME = 2e-6  # of the size of a projection: single precision differs by 1e-7, independent chains by much more


class Fingerprints:
    """Collects the configurations of all chains block by block.

    A fingerprint is the sha256 of a chain's numbers, and the projection of each configuration on one fixed direction.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._digests: list[hashlib._Hash] = []
        self._first = np.empty(0)
        self._moves = np.empty(0, bool)
        self._projections: list[np.ndarray] = []

    def add(self, x: np.ndarray) -> None:
        """The next configurations, (n, B, *event)."""
        if not self._digests:
            self._digests = [hashlib.sha256() for _ in range(x.shape[1])]
            self._first, self._moves = x[0].copy(), np.zeros(x.shape[1], bool)
        for digest, chain in zip(self._digests, np.moveaxis(x, 1, 0)):
            digest.update(np.ascontiguousarray(chain).data)
        self._moves |= (x != self._first).reshape(*x.shape[:2], -1).any(axis=(0, 2))
        self._projections.append(_projected(x, self._space))

    @property
    def digests(self) -> list[str]:
        """One of each chain, "" for a chain that never moves: such ones may be equal without being one."""
        return [digest.hexdigest()[:16] if moves else "" for digest, moves in zip(self._digests, self._moves)]

    def overlapping(self) -> tuple[int, int] | None:
        """The numbers of two chains that have configurations in common, a part or in another order; or None."""
        if np.dtype(self._space.dtype).kind == "i":  # few integers are often the same
            return None
        return shared_values(list(np.concatenate(self._projections).T))

    def twins(self) -> tuple[int, int] | None:
        """The numbers of two chains that move and are the same, to single precision, the later one last; or None."""
        projections = np.concatenate(self._projections)[:, self._moves]  # (n, moving chains)
        numbers = np.flatnonzero(self._moves)
        if projections.shape[1] < 2:
            return None
        margin = _SAME * math.sqrt(np.square(projections).mean())
        means = projections.mean(axis=0)
        order = np.argsort(means, kind="stable")
        for place, one in enumerate(order):
            for other in order[place + 1 :]:
                if means[other] - means[one] > margin:
                    break
                if self._are_same(projections[:, one], projections[:, other], margin, numbers[one], numbers[other]):
                    first, second = sorted((int(numbers[one]), int(numbers[other])))
                    return first, second
        return None

    def _are_same(self, one: np.ndarray, other: np.ndarray, margin: float, a: int, b: int) -> bool:
        if np.dtype(self._space.dtype).kind == "i":  # of integers there is no rounding, and few sums of few of them
            return self._digests[a].digest() == self._digests[b].digest()
        return bool((np.abs(one - other) <= margin).all())


def _projected(x: np.ndarray, space: Space) -> np.ndarray:
    """A smooth function of each configuration that hardly two share, (n, B)."""
    flat = x.reshape(*x.shape[:2], -1)
    directions = np.random.default_rng(0).normal(size=(2, flat.shape[-1]))
    if space == CIRCLE:
        return np.cos(flat) @ directions[0] + np.sin(flat) @ directions[1]
    return flat @ directions[0]
