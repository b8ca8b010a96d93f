"""The networks of couplings: what they see of the frozen variables, and what they make of it."""

import itertools
import math
from typing import Annotated, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from lattice_flows.flows.line_transform import LineTransform
from lattice_flows.flows.map_catalogue import MapCatalogue, MapTable
from lattice_flows.flows.neighbour_context import NeighbourContext
from lattice_flows.flows.plan import check_between, check_widths
from lattice_flows.flows.site_coupling import frozen_places
from lattice_flows.flows.transforms.convolutions import PeriodicNetwork
from lattice_flows.flows.transforms.masks import Mask
from lattice_flows.flows.transforms.plan import Fields
from lattice_flows.flows.vector_context import VectorContext

_MOST_REACH = 49
_MOST_BLOCKS = 100  # blocks of a network
_WIDEST = 10_000


class Seen(NamedTuple):
    """The frozen variables (n_neighbours, n_active or 1), in C order, that a network sees of each active one."""

    places: Tensor
    network: nn.Module


class ContextPlan(Protocol):
    """A network yet to be built; its constructor raises ValueError for options out of range."""

    def seen(self, active: Mask, fields: Fields, line: LineTransform) -> Seen:
        """The network for these active variables. Raises ValueError where it does not fit them."""


class Stencil:
    """The frozen sites within `reach` along every axis, the same function at every site; see `NeighbourContext`.

    It is odd by construction, its weights do not know the volume, and it is quick. hidden: widths of its layers.
    rotations: sites that reflections and exchanges of axes take to each other have the same weight, so that with
    "checkerboard" the coupling commutes with them. The active variables lie in one channel, and all channels are seen.
    """

    def __init__(self, hidden: tuple[int, ...] = (16, 16), reach: int = 2, rotations: bool = False) -> None:
        check_widths(hidden, fewest=1)
        check_between("reach", reach, 1, _MOST_REACH)
        self.hidden, self.reach, self.rotations = tuple(hidden), reach, rotations

    def seen(self, active: Mask, fields: Fields, line: LineTransform) -> Seen:
        """Raises ValueError where no frozen site lies at the same place beside all active ones."""
        if not fields.sites:
            raise ValueError(f"the context 'stencil' needs a lattice, got {fields}; take 'mlp'")
        if fields.channels and len(set(np.nonzero(active)[0])) > 1:
            raise ValueError("the context 'stencil' is for active variables of one channel; take 'cnn' or 'resnet'")
        places_beside = list(frozen_places(active, ~active, self.reach, n_channel_axes := len(fields.channels)))
        if not places_beside:
            raise ValueError(f"no place within reach = {self.reach} is frozen for all active variables of {fields}")
        places = torch.from_numpy(np.stack([column for _, column in places_beside]))
        if not self.rotations:
            return Seen(places, NeighbourContext(len(places), self.hidden, line.n_even, line.n_odd))
        orbits = [(*at[:n_channel_axes], *sorted(map(abs, at[n_channel_axes:]))) for at, _ in places_beside]
        if any(orbits.count(key) != _orbit_size(key, n_channel_axes) for key in set(orbits)):
            raise ValueError(
                "rotations = true needs a mask that reflections and exchanges of axes take to itself, such as "
                '"checkerboard" on even sides'
            )
        kinds = {key: k for k, key in enumerate(dict.fromkeys(orbits))}
        network = NeighbourContext(len(kinds), self.hidden, line.n_even, line.n_odd)
        return Seen(places, Summed(torch.tensor([kinds[key] for key in orbits]), len(kinds), network))


def _orbit_size(key: tuple[int, ...], n_channel_axes: int) -> int:
    """The number of different offsets that reflections and exchanges of axes make of one."""
    offset = key[n_channel_axes:]
    return len(set(itertools.permutations(offset))) * 2 ** sum(step > 0 for step in offset)


class Summed(nn.Module):
    """A network of the sums over equal places: its first layer is a convolution with a symmetric kernel."""

    kinds: Tensor

    def __init__(self, kinds: Tensor, n_kinds: int, network: NeighbourContext) -> None:
        super().__init__()
        self.register_buffer("kinds", kinds, persistent=False)
        self.n_kinds, self.network = n_kinds, network

    def forward(self, near: Tensor) -> tuple[Tensor, Tensor]:
        """near (n_neighbours, sites, B)."""
        sums = near.new_zeros(self.n_kinds, *near.shape[1:]).index_add(0, self.kinds, near)
        return self.network.forward(sums)


class Dense:
    """A network of all frozen variables, each active one with outputs of its own. hidden: widths of its layers.

    odd: the coupling commutes with the sign of the field, for which the network is evaluated twice.
    """

    def __init__(self, hidden: tuple[int, ...] = (32, 32), odd: bool = False) -> None:
        check_widths(hidden, fewest=1)
        self.hidden, self.odd = tuple(hidden), odd

    def seen(self, active: Mask, fields: Fields, line: LineTransform) -> Seen:
        """Raises nothing: it fits any mask."""
        places = torch.from_numpy(np.flatnonzero(~active))[:, None]
        network = VectorContext(len(places), int(active.sum()), self.hidden, line.n_even, line.n_odd)
        return Seen(places, SignSymmetric(network) if self.odd else network)


class Convolutional:
    """Periodic convolutions of `kernel` sites a side over all frozen variables, and layers of widths `hidden`.

    It knows which variables are active, so that its function may differ from place to place by the mask's period. odd:
    as that of "mlp".
    """

    def __init__(self, hidden: tuple[int, ...] = (16, 16), kernel: int = 3, odd: bool = True) -> None:
        check_widths(hidden, fewest=1)
        _check_kernel(kernel)
        self.hidden, self.kernel, self.odd = tuple(hidden), kernel, odd

    def seen(self, active: Mask, fields: Fields, line: LineTransform) -> Seen:
        """Raises ValueError without a lattice of one to three dimensions."""
        return _convolving(active, fields, line, self.hidden, self.kernel, residual=False, odd=self.odd)


class Residual:
    """As "cnn", with `n_blocks` residual blocks of two convolutions of `width` channels each."""

    def __init__(self, width: int = 16, n_blocks: int = 2, kernel: int = 3, odd: bool = True) -> None:
        check_between("width", width, 1, _WIDEST)
        check_between("n_blocks", n_blocks, 1, _MOST_BLOCKS)
        _check_kernel(kernel)
        self.width, self.n_blocks, self.kernel, self.odd = width, n_blocks, kernel, odd

    def seen(self, active: Mask, fields: Fields, line: LineTransform) -> Seen:
        """Raises ValueError without a lattice of one to three dimensions."""
        hidden = (self.width,) * (2 * self.n_blocks + 1)
        return _convolving(active, fields, line, hidden, self.kernel, residual=True, odd=self.odd)


def _convolving(
    active: Mask, fields: Fields, line: LineTransform, hidden: tuple[int, ...], kernel: int, residual: bool, odd: bool
) -> Seen:
    if not 1 <= len(fields.sites) <= 3:
        raise ValueError(f"convolutions need a lattice of one to three dimensions, got {fields}; take 'mlp'")
    places = torch.from_numpy(np.flatnonzero(~active))[:, None]
    network = OnLattice(active, fields, (line.n_even, line.n_odd), hidden, kernel, residual)
    return Seen(places, SignSymmetric(network) if odd else network)


class OnLattice(nn.Module):
    """A periodic network of the whole lattice whose outputs are read at the active variables."""

    frozen: Tensor
    active: Tensor
    mask: Tensor

    def __init__(
        self,
        active: Mask,
        fields: Fields,
        kinds: tuple[int, int],
        hidden: tuple[int, ...],
        kernel: int,
        residual: bool,
    ) -> None:
        super().__init__()
        n_channels = math.prod(fields.channels)
        self.kinds, self.shape = kinds, (n_channels, *fields.sites)
        self.register_buffer("frozen", torch.from_numpy(np.flatnonzero(~active)), persistent=False)
        self.register_buffer("active", torch.from_numpy(np.flatnonzero(active)), persistent=False)
        mask = torch.from_numpy(active.astype(np.float32)).reshape(self.shape)
        self.register_buffer("mask", mask, persistent=False)
        widths = (2 * n_channels, *hidden, sum(kinds) * n_channels)
        self.network = PeriodicNetwork(len(fields.sites), widths, kernel, residual)

    def forward(self, near: Tensor) -> tuple[Tensor, Tensor]:
        """near (n_frozen, 1, B) -> even (n_even, n_active, B) and odd (n_odd, n_active, B)."""
        n = near.shape[-1]
        field = near.new_zeros(n, math.prod(self.shape)).index_copy(1, self.frozen, near.squeeze(1).t())
        mask = self.mask.to(near.dtype).expand(n, *self.shape)
        output = self.network.forward(torch.cat([field.view(n, *self.shape), mask], 1))
        by_kind = output.unflatten(1, (sum(self.kinds), -1)).flatten(2)  # (B, n_kinds, variables)
        even, odd = by_kind[:, :, self.active].movedim(0, -1).split(self.kinds)
        return even, odd


class SignSymmetric(nn.Module):
    """The even part of a network's even parameters, and the odd part of its odd ones."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, near: Tensor) -> tuple[Tensor, Tensor]:
        """near (n_neighbours, n_active or 1, B)."""
        even, odd = self.network.forward(torch.cat([near, -near], -1))
        (even, even_of_minus), (odd, odd_of_minus) = even.chunk(2, -1), odd.chunk(2, -1)
        return 0.5 * (even + even_of_minus), 0.5 * (odd - odd_of_minus)


def _check_kernel(kernel: int) -> None:
    if not 1 <= kernel <= 2 * _MOST_REACH + 1 or kernel % 2 == 0:
        raise ValueError(f"kernel must be odd and between 1 and {2 * _MOST_REACH + 1}, got {kernel}")


CONTEXTS = MapCatalogue[ContextPlan](
    {"stencil": Stencil, "mlp": Dense, "cnn": Convolutional, "resnet": Residual}, what="context"
)

ContextTable = Annotated[MapTable | None, CONTEXTS]
"""A network by name, or a table of it with its options; None: the usual one."""
