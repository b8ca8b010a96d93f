"""Wolff's cluster update of scalar theories: the signs of a whole domain flip at once."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from lattice_flows.samplers.local import ChainState, chain_state
from lattice_flows.samplers.sampler import Array, Sampler, Streams
from lattice_flows.theories.action import Action
from lattice_flows.theories.phi4.action import LocalScalar
from lattice_flows.theories.phi4.kernels import cluster as cluster_phi4


class ClusterInfo(NamedTuple):
    """The mean fraction of the sites that an update flipped, (B,)."""

    cluster_size: Array


@dataclass(frozen=True)
class Cluster(Sampler):
    """One update grows a cluster from a random site and flips its sign (Wolff, Phys. Rev. Lett. 62 (1989) 361).

    At fixed |phi| the signs are an Ising model (Brower and Tamayo, Phys. Rev. Lett. 62 (1989) 1087). |phi| does not
    change: mix it with hmc, heatbath or metropolis.

    Raises ValueError for any action but a local one of a scalar field.
    """

    action: Action
    ergodic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.action, LocalScalar):
            raise ValueError(f"cluster updates are for phi4 and phi4_hopping, not for {type(self.action).__name__}")

    def init(self, x: Array, streams: Streams) -> ChainState:
        """The state of chains at x (B, *lattice_shape)."""
        return chain_state(x, streams)

    def step(self, state: ChainState, n_updates: int = 1) -> tuple[ChainState, ClusterInfo]:
        """Make n_updates cluster flips in every chain."""
        assert isinstance(self.action, LocalScalar)
        couplings = self.action.couplings(state.x.ndim - 1)
        x, streams, flipped = cluster_phi4.cluster(state.x, state.streams, *couplings, n_updates)
        return ChainState(x, streams), ClusterInfo(flipped)
