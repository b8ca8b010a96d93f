"""Flows whose samples are moved by a random element of a group of symmetries."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from lattice_flows.flows.composed import PRIORS, ComposedFlow
from lattice_flows.flows.flow import Flow, FlowSample, Proposer
from lattice_flows.flows.map_catalogue import MapTable
from lattice_flows.flows.plan import Ability, FlowPlan
from lattice_flows.flows.prior import Prior
from lattice_flows.flows.transforms.plan import TransformTables
from lattice_flows.lattice import CIRCLE, REAL, Space
from lattice_flows.theories.action import Action

SYMMETRIES = ("sign", "conjugation", "translations")


class Symmetry(NamedTuple):
    """An Abelian group of `order` elements, 0 the identity: act(x, k) are x (B, *event) moved by elements k (B,), which
    may be negative for their inverses."""

    order: int
    act: Callable[[Tensor, Tensor], Tensor]


def sign() -> Symmetry:
    """phi -> -phi, and of angles charge conjugation."""
    return Symmetry(2, lambda x, k: torch.where((k % 2 == 1).view(-1, *[1] * (x.ndim - 1)), -x, x))


def translations(sites: tuple[int, ...]) -> Symmetry:
    """All translations of a periodic lattice with one number at each site."""
    strides = [math.prod(sites[axis + 1 :]) for axis in range(len(sites))]

    def act(x: Tensor, k: Tensor) -> Tensor:
        source = torch.zeros(1, 1, dtype=torch.int64, device=x.device)  # (B, sites so far): where each site comes from
        backwards = torch.where(k < 0, -1, 1)
        for side, stride in zip(sites, strides):
            offset = backwards * (k.abs() // stride % side)
            along = (torch.arange(side, device=x.device) - offset[:, None]) % side  # (B, side)
            source = (source[:, :, None] + stride * along[:, None, :]).flatten(1)
        return x.flatten(1).gather(1, source).view_as(x)

    return Symmetry(math.prod(sites), act)


class Group:
    """The direct product of symmetries; elements are numbers from 0 to order - 1."""

    def __init__(self, symmetries: Sequence[Symmetry]) -> None:
        self.symmetries = tuple(symmetries)
        self.order = math.prod(one.order for one in symmetries)

    def moved(self, x: Tensor, g: Tensor) -> Tensor:
        """g x, of elements g (B,)."""
        return self._act(x, g, 1)

    def moved_back(self, x: Tensor, g: Tensor) -> Tensor:
        """g^-1 x."""
        return self._act(x, g, -1)

    def _act(self, x: Tensor, g: Tensor, direction: int) -> Tensor:
        for one in self.symmetries:
            x, g = one.act(x, direction * (g % one.order)), g // one.order
        return x


class RandomlyMoved(Proposer):
    """x = g f(z), where g is uniform in a group (arXiv:2505.19619), with one density or another.

    The noise of a sample is its g (n,). Weights have the mean Z whether the target has the symmetry or not, and are the
    better for it where it does and the flow does not.
    """

    def __init__(self, flow: Flow, group: Group) -> None:
        super().__init__()
        self.flow, self.group = flow, group

    @property
    def prior(self) -> Prior:  # type: ignore[override]
        """That of the flow."""
        return self.flow.prior

    @property
    def space(self) -> Space:
        """That of the flow."""
        return self.flow.space

    def noise(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """(g,) of n samples, uniform."""
        return (torch.randint(self.group.order, (n,), generator=generator, device=generator.device),)

    def wrapped(self, x: Tensor, g: Tensor) -> Tensor:
        """g x, wrapped."""
        return self.space.wrap(self.group.moved(x, g))

    @abstractmethod
    def path_log_q(self, x: Tensor, *noise: Tensor) -> Tensor:
        """log q of x (B, *event), (B,)."""


class JointFlow(RandomlyMoved):
    """Moved samples with the density of x and g together: log q(x, g) = log q_f(g^-1 x), of one evaluation.

    The target is then that of x, and g uniform. The density of g, the same for both, is left out.
    """

    def image(self, z: Tensor, *noise: Tensor) -> FlowSample:
        """g f(z) of latent configurations z (B, *event)."""
        x, log_q = self.flow.image(z)
        return FlowSample(self.wrapped(x, *noise), log_q)

    def path_log_q(self, x: Tensor, *noise: Tensor) -> Tensor:
        """log q of x (B, *event) and g."""
        return self.flow.log_prob(self.space.wrap(self.group.moved_back(x, *noise)))


class AveragedFlow(RandomlyMoved):
    """Moved samples with the density of x alone, log q(x) = log mean_g q_f(g^-1 x): the inverse of the flow for every
    element of the group. A weight is the mean of the joint ones over g, given x; the ESS is never smaller."""

    def image(self, z: Tensor, *noise: Tensor) -> FlowSample:
        """g f(z) of latent configurations z (B, *event)."""
        x = self.wrapped(self.flow.image(z).x, *noise)
        return FlowSample(x, self.log_prob(x))

    def path_log_q(self, x: Tensor, *noise: Tensor) -> Tensor:
        """log_prob."""
        return self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log q(x), (B,), in the dtype of x (B, *event)."""
        elements = torch.arange(self.group.order, device=x.device)
        each = [
            self.flow.log_prob(self.space.wrap(self.group.moved_back(x, g.expand(len(x))))) for g in elements.unbind()
        ]
        return torch.logsumexp(torch.stack(each), 0) - math.log(self.group.order)


@dataclass(frozen=True)
class SymmetrisedFlow(FlowPlan):
    """A composed flow whose samples are moved by a random element of a group of symmetries (arXiv:2505.19619).

    symmetries: "sign", phi -> -phi; "conjugation", that of angles; "translations", all of the lattice. density: "joint"
    of the sample and the element, which costs what the flow costs; or "average" over the group, as many inverses of the
    flow as the group has elements, with better weights. For the other keys see `ComposedFlow`.

    Raises ValueError for what `ComposedFlow` refuses, for symmetries that the variables do not have, for "average" with
    transforms without an inverse, and for transforms that are integrated, whose steps are not refined here.
    """

    shape: tuple[int, ...]
    action: Action
    _: KW_ONLY
    transforms: TransformTables
    symmetries: tuple[str, ...]
    density: Literal["average", "joint"] = "joint"
    n_repeats: int = 1
    prior: Annotated[MapTable | None, PRIORS] = None

    def __post_init__(self) -> None:
        if self.density not in ("average", "joint"):
            raise ValueError(f'density must be "average" or "joint", got {self.density!r}')
        self._check_symmetries()
        if self.flow.integrated:
            raise ValueError("symmetrised takes no transforms that are integrated: their steps are not refined there")
        if self.density == "average" and "inverse" not in self.flow.offers:
            raise ValueError('density = "average" needs the inverse of every transform')

    @property
    def space(self) -> Space:  # type: ignore[override]
        """That of the theory."""
        return self.action.space

    @property
    def offers(self) -> frozenset[Ability]:  # type: ignore[override]
        """Paths, and the score, where the transforms have an inverse."""
        able = "inverse" in self.flow.offers
        return frozenset({"gradient", "score", "paths"}) if able else frozenset({"gradient"})

    @cached_property
    def flow(self) -> ComposedFlow:
        """The plan of the flow itself."""
        return ComposedFlow(
            self.shape, self.action, transforms=self.transforms, n_repeats=self.n_repeats, prior=self.prior
        )

    def assemble(self) -> Proposer:
        """The flow and the group."""
        flow, wanted = self.flow.assemble(), tuple(self.shape)
        group = Group([translations(wanted) if name == "translations" else sign() for name in self.symmetries])
        return AveragedFlow(flow, group) if self.density == "average" else JointFlow(flow, group)

    def _check_symmetries(self) -> None:
        names = self.symmetries
        if not names or isinstance(names, str) or len(set(names)) < len(names) or not set(names) <= {*SYMMETRIES}:
            raise ValueError(f"symmetries must be different ones of {', '.join(SYMMETRIES)}, got {names!r}")
        spaces = {"sign": (REAL,), "conjugation": (CIRCLE,), "translations": (REAL, CIRCLE)}
        for name in names:
            if self.space not in spaces[name] or (name == "translations" and not self.shape):
                where = "on a lattice" if self.shape else "without a lattice"
                raise ValueError(f"{name} is no symmetry of {self.space} {where}")
