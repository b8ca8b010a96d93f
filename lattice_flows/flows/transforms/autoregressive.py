"""Autoregressive maps: each variable moves, given those before it."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import torch
import zuko
from torch import Tensor, nn
from torch.func import functional_call

from lattice_flows.flows.initialise import initialise
from lattice_flows.flows.line_maps import LINE_MAPS
from lattice_flows.flows.map_catalogue import MapCatalogue, MapTable
from lattice_flows.flows.network_dtype import network_dtype
from lattice_flows.flows.plan import Ability, check_widths
from lattice_flows.flows.transform import Inverse, Transform
from lattice_flows.flows.transforms.elementwise import SPLINE_BOUND
from lattice_flows.flows.transforms.monotone_networks import NafMap, UmnnMap, redraw
from lattice_flows.flows.transforms.plan import Fields, TransformPlan, check_real
from lattice_flows.lattice import REAL


class VariableMap(Protocol):
    """A map of one variable with parameters, as a `LineTransform`."""

    n_even: int
    n_odd: int

    def forward(self, x: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]: ...

    def inverse(self, y: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]: ...


MAPS = MapCatalogue[VariableMap]({**LINE_MAPS.maps, "naf": NafMap, "umnn": UmnnMap}, given=LINE_MAPS.given)
"""The maps of one variable: those of LINE_MAPS, and networks."""


class MaskedAutoregressive(Transform):
    """z_i = f(x_i; h_i(x_<i)) of all n variables: MAF, arXiv:1705.07057, with masks as those of MADE, arXiv:1502.03509.

    One network (`zuko.nn.MaskedMLP`, of SiLU layers of widths `hidden`) computes the parameters of all maps from x at
    once, so `inverse` takes one pass through it. `forward` takes `n_passes`: each pass finds the variables of one more
    group from those before them. With groups of one variable that is n passes; in larger ones variables know nothing of
    each other, and 2 groups make a coupling. `reverse` begins with the last variable. Of the 64 variables of 8 x 8
    `forward` takes some 50 to 100 times as long as `inverse` with affine maps, and 20 times with splines.
    """

    domain = codomain = REAL

    def __init__(
        self, n: int, line: VariableMap, hidden: tuple[int, ...], n_passes: int | None = None, reverse: bool = False
    ) -> None:
        super().__init__()
        self.line = line
        size = -(-n // (n_passes or n))
        groups = [slice(start, min(start + size, n)) for start in range(0, n, size)]
        self.groups = groups[::-1] if reverse else groups
        place = torch.arange(n) // size
        given = place[:, None] < place if reverse else place[:, None] > place
        given = given.repeat_interleave(line.n_even + line.n_odd, 0)  # (n * n_parameters, n)
        with torch.random.fork_rng(devices=[]):
            self.network = zuko.nn.MaskedMLP(given, tuple(hidden), activation=nn.SiLU)
        for layer in self.network.modules():
            if isinstance(layer, zuko.nn.MaskedLinear):  # masks follow from the options: they are no weights
                layer.register_buffer("mask", layer.mask, persistent=False)

    def initialise(self, generator: torch.Generator) -> None:
        """Redraw the network, whose last layer is 0, and the maps' own."""
        redraw(self.network, generator, last=0.0)
        if isinstance(self.line, nn.Module):
            initialise(self.line, generator)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        flat, x, log_det = z.flatten(1), torch.zeros_like(z).flatten(1), z.new_zeros(len(z))
        for group in self.groups:
            even, odd = self.parameters_of(x)
            found, log_slope = self.line.inverse(flat[:, group], even[..., group], odd[..., group])
            x = x.slice_scatter(found, 1, group.start, group.stop)
            log_det = log_det + log_slope.sum(1)
        return x.view_as(z), log_det

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_slope = self.line.forward(x.flatten(1), *self.parameters_of(x.flatten(1)))
        return z.view_as(x), log_slope.sum(1)

    def parameters_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """even (n_even, B, n) and odd (n_odd, B, n) of x (B, n), in its dtype."""
        dtype = network_dtype(next(self.network.parameters()))
        weights = {name: weight.to(dtype) for name, weight in self.network.named_parameters()}
        output = functional_call(self.network, weights, (x.to(dtype),)).to(x.dtype)
        by_kind = output.unflatten(1, (x.shape[1], -1)).movedim(2, 0).contiguous()
        return by_kind[: self.line.n_even], by_kind[self.line.n_even :]


@dataclass(frozen=True)
class AutoregressivePlan(TransformPlan):
    """Each variable moves by one map of MAPS, given those before it, in C order, or with `reverse` those after it.

    map: one of LINE_MAPS; "naf", a network of positive weights (arXiv:1804.00779); or "umnn", the integral of a
    positive network (arXiv:1908.05164). The last two are inverted by finding roots.
    `passes` are the groups of variables, which is all of them unless given; 2 make a coupling. No symmetry is built in.

    Raises ValueError for values out of range.
    """

    map: Annotated[MapTable, MAPS] = "affine"
    hidden: tuple[int, ...] = (64, 64)
    passes: int | None = None
    reverse: bool = False

    def __post_init__(self) -> None:
        MAPS.build(self.map)  # which checks it
        check_widths(self.hidden, fewest=1)

    def check(self, fields: Fields) -> None:
        """Raise ValueError for other variables than real numbers, fewer than two, and other groups of them."""
        check_real(fields, least=2)
        if self.passes is not None and not 2 <= self.passes <= fields.n:
            raise ValueError(f"passes must be between 2 and the {fields.n} variables, got {self.passes}")

    @abstractmethod
    def assemble(self, fields: Fields) -> Transform:
        """One direction or the other of the map of all variables."""

    def masked(self, fields: Fields) -> MaskedAutoregressive:
        """The map of all variables, whose inverse is the fast direction."""
        line = MAPS.build(self.map, bound=SPLINE_BOUND * fields.width, width=fields.width)
        return MaskedAutoregressive(fields.n, line, tuple(self.hidden), self.passes, self.reverse)


@dataclass(frozen=True)
class MAFPlan(AutoregressivePlan):
    """MAF, arXiv:1705.07057: the density of given fields takes one pass of the network, a sample `passes` of them; see
    `MaskedAutoregressive`. It learns from data; where the flow's own samples are what it learns from, "iaf" is faster.
    """

    def assemble(self, fields: Fields) -> Transform:
        """The map of all variables."""
        return self.masked(fields)


@dataclass(frozen=True)
class IAFPlan(AutoregressivePlan):
    """IAF, arXiv:1606.04934, the inverse of MAF: a sample and its density take one pass of the network.

    The density of given fields takes `passes` of them, so no inverse is offered to objectives and samplers. It exists
    in Python, and looks at a training use it to find the round trip.
    """

    offers: ClassVar[frozenset[Ability]] = frozenset({"gradient"})

    def assemble(self, fields: Fields) -> Transform:
        """The map of all variables."""
        return Inverse(self.masked(fields))
