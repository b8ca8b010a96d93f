"""Cluster updates: a whole domain of spins turns at once."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from lattice_flows.samplers.local import ChainState, chain_state
from lattice_flows.samplers.sampler import Sampler, Streams
from lattice_flows.theories.action import Action, ClusterUpdate, Field


@dataclass(frozen=True)
class Cluster(Sampler):
    """One update grows a cluster from a random site and flips it (Wolff, Phys. Rev. Lett. 62 (1989) 361).

    In a scalar theory the signs at fixed |phi| are an Ising model (Brower and Tamayo, Phys. Rev. Lett. 62 (1989) 1087):
    |phi| does not change, so mix it with hmc, heatbath or metropolis.

    Raises ValueError for an action without cluster updates.
    """

    action: Action
    reversible: ClassVar[bool] = True  # Wolff's condition: a cluster is as likely to grow before its flip as after it
    memoryless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_clusters(self.action)

    @property
    def ergodic(self) -> bool:  # type: ignore[override]
        """Whether the clusters change all that there is to change."""
        return self.action.clusters_reach_all

    def init(self, x: Field, streams: Streams) -> ChainState:
        """The state of chains at x (B, *event). Raises ValueError where the action has no such update."""
        return _begun(self.action, "wolff", x, streams)

    def step(self, state: ChainState, n_updates: int = 1) -> tuple[ChainState, NamedTuple]:
        """Make n_updates cluster flips in every chain."""
        return _stepped(self.action, "wolff", state, n_updates)


@dataclass(frozen=True)
class SwendsenWang(Sampler):
    """One update divides the lattice into clusters and flips each with probability 1/2.

    Swendsen and Wang, Phys. Rev. Lett. 58 (1987) 86.

    Raises ValueError for an action without cluster updates.
    """

    action: Action
    reversible: ClassVar[bool] = True  # bonds are drawn given the spins, and new spins given the bonds alone
    memoryless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_clusters(self.action)

    @property
    def ergodic(self) -> bool:  # type: ignore[override]
        """Whether the clusters change all that there is to change."""
        return self.action.clusters_reach_all

    def init(self, x: Field, streams: Streams) -> ChainState:
        """The state of chains at x (B, *event). Raises ValueError where the action has no such update."""
        return _begun(self.action, "swendsen_wang", x, streams)

    def step(self, state: ChainState, n_updates: int = 1) -> tuple[ChainState, NamedTuple]:
        """Divide every chain's lattice n_updates times."""
        return _stepped(self.action, "swendsen_wang", state, n_updates)


def _require_clusters(action: Action) -> None:
    if type(action).cluster_updates is Action.cluster_updates:
        raise ValueError(f"there are no cluster updates of {type(action).__name__}; use hmc, heatbath or metropolis")


def _begun(action: Action, kind: str, x: Field, streams: Streams) -> ChainState:
    _update(action, x.shape[1:], kind)
    return chain_state(action, x, streams)


def _stepped(action: Action, kind: str, state: ChainState, n_updates: int) -> tuple[ChainState, NamedTuple]:
    x, streams, info = _update(action, state.x.shape[1:], kind)(*state, n_updates)
    return ChainState(x, streams), info


def _update(action: Action, event: tuple[int, ...], kind: str) -> ClusterUpdate:
    """The update of this kind. Raises ValueError if the action has none for configurations of this shape."""
    update = getattr(action.cluster_updates(event), kind)
    if update is None:
        raise ValueError(f"{type(action).__name__} has no {kind} updates of configurations of shape {list(event)}")
    return update
