"""Import of fields that another code made: arrays of configurations become an ensemble file for `analyse`."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lattice_flows.card.build import field_spec
from lattice_flows.card.card import Card
from lattice_flows.ensembles import Block, Ensemble, EnsembleWriter
from lattice_flows.errors import InputError
from lattice_flows.interchange import doubts
from lattice_flows.interchange.axes import Axes, is_of_lattice, parse_axes
from lattice_flows.interchange.fingerprints import Fingerprints
from lattice_flows.interchange.imported import (
    PORTIONS,
    Portions,
    card_of,
    check_target,
    header_of,
    made_at,
    nothing_kept,
    require_different_chains,
    require_no_overlap,
    tell,
)
from lattice_flows.interchange.sources import Source, blocks, open_sources
from lattice_flows.lattice import REAL
from lattice_flows.production.foreign_numbers import ForeignNumbers
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.terminal.progress import Meter, meter
from lattice_flows.theories.catalogue import THEORIES
from lattice_flows.theories.measurement import measured

_ANY_EXTENT = 4


def import_fields(
    paths: Sequence[Path],
    theory: dict[str, Any],
    out: Path,
    console: Console,
    stop: StopRequest,
    axes: str = "",
    shorten: bool = False,
    portions: Portions = PORTIONS,
) -> None:
    """Make the ensemble file `out` (NAME.h5) from arrays of fields, and measure the standard observables.

    paths      FILE.npy, FILE.npz:NAME, FILE.h5:/PATH/OF/DATASET (the name may be left out where there is only one), or
               patterns of such. Each is (config, *event), one chain, or (config, chain, *event); several are further
               chains. event is the shape of a configuration: (2, L0, L1) for links of a 2D gauge theory, (L0, L1) for
               spins. Angles are real, and wrapped into [-pi, pi), or complex numbers of modulus 1.
               links[..., mu, n0, n1] belongs to the link from n to n + mu, and mu is the lattice axis of the same
               number.
    theory     the [theory] table without its shape: {"name": "u1", "beta": 6.0}
    axes       their order in the arrays where it is another one, such as "chain,config,x0,x1,mu". Without `config` each
               file is one configuration, and all of them in natural numeric order are a chain.
    shorten    take of each chain only as many configurations as the shortest has
    portions   amount of data read and written at once; the ensemble does not depend on it

    What is far off the closed forms of the theory is told in a warning. If it fails or is stopped, nothing is left
    behind. No pickled object is ever loaded. Raises InputError for input that does not fit, also for a chain that is
    given twice and for more chains than configurations without `axes`; EnsembleError if the file cannot be written,
    Stopped on a signal: then start the import again.
    """
    check_target(out)
    expected = _axes(theory, parse_axes(axes))
    numbers = ForeignNumbers.of(expected.field, card_of(theory, expected.field.lattice_shape).theory.action.space)
    with nothing_kept(stop), ExitStack() as stack:
        sources, n_configs = open_sources(paths, expected, numbers, shorten, stack)
        data = _Data(sources, n_configs, numbers, portions)
        card = card_of(theory, sources[0].lattice_shape)
        with meter(console, f"{out.stem}: looking at all", n_configs, "configurations") as progress:
            fingerprints = data.look(stop, progress)
        header = header_of(out.stem, card, card.measurements, [one.files for one in sources], fingerprints, stop)
        header["imported_axes"] = json.dumps(list(dict.fromkeys(source.in_file for source in sources)))
        with made_at(out) as unnamed, meter(console, out.stem, n_configs, "configurations") as progress:
            found = _write(unnamed, card, data, header, stop, progress)
        with Ensemble.open(out) as made:
            far = doubts.pulls(made, card) | found.far
        reasons = doubts.reasons_of_fields(expected.field, found.largest_angle)
        reasons += ["fields in another normalisation"] if numbers.space == REAL and doubts.IDENTITY in far else []
        tell(console, out.stem, doubts.warning(far, reasons))


def _axes(theory: dict[str, Any], given: tuple[str, ...]) -> Axes:
    """The axes of this theory's fields, on a lattice of any size."""
    if "shape" in theory:
        raise InputError("import: the shape is taken from the arrays; leave it out")
    known = THEORIES.get(str(theory.get("name")))
    allowed = known.dimensions if known else range(2, 3)  # the card refuses an unknown theory
    dimension = sum(map(is_of_lattice, given)) if given else allowed[0]
    if len(allowed) > 1 and not given:
        lattice = ",".join(f"x{axis}" for axis in range(min(2, allowed[-1])))
        raise InputError(
            f"import: {theory['name']} lives in {allowed[0]} to {allowed[-1]} dimensions; say in how many by the axes "
            f"of the arrays, such as --axes config,chain,{lattice}"
        )
    card = card_of(theory, (_ANY_EXTENT,) * (dimension if dimension in allowed else allowed[0]))
    return Axes(field_spec(card.theory), given)


@dataclass(frozen=True)
class _Data:
    """The configurations of all sources, read as often as they are needed."""

    sources: Sequence[Source]
    n_configs: int
    numbers: ForeignNumbers
    portions: Portions

    @property
    def n_chains(self) -> int:
        return sum(source.n_chains for source in self.sources)

    @property
    def labels(self) -> list[str]:
        """What to call each chain."""
        return [
            source.label if source.n_chains == 1 else f"chain {chain} of {source.label}"
            for source in self.sources
            for chain in range(source.n_chains)
        ]

    def blocks(self) -> Iterator[np.ndarray]:
        """All configurations in blocks (n, B, *event); angles are not wrapped."""
        return blocks(self.sources, self.n_configs, self.numbers, self.portions.block_bytes)

    def look(self, stop: StopRequest, progress: Meter) -> Fingerprints:
        """Read everything once. Raises InputError for numbers that cannot be, and for a chain that is there twice."""
        fingerprints, n_seen = Fingerprints(self.numbers.space), 0
        for x in self.blocks():
            self.numbers.wrap_angles(x)
            fingerprints.add(x)
            n_seen += len(x)
            if n_seen < self.n_configs:  # the end is told when all is written
                progress.update(n_seen, "")
            stop.raise_if_set()
        require_different_chains(fingerprints, self.labels)
        require_no_overlap(fingerprints, self.labels)
        return fingerprints


@dataclass(frozen=True)
class _Found:
    """What was noticed while the configurations were read: see `doubts`."""

    far: dict[str, float]
    largest_angle: float


def _write(
    path: Path, card: Card, data: _Data, header: dict[str, str | int], stop: StopRequest, progress: Meter
) -> _Found:
    """Make the ensemble."""
    field, chains = field_spec(card.theory), range(data.n_chains)
    identity = doubts.SchwingerDyson(card.theory.action, data.n_configs, data.n_chains)
    n_wrapped, largest, pending = 0, 0.0, 0
    with Ensemble.create(path, header=header, chains=chains, field=field, store_fields=True) as writer:
        for x in data.blocks():
            largest = max(largest, float(np.abs(x).max()))
            n_wrapped += data.numbers.wrap_angles(x)
            _append(writer, card, x)
            identity.add(x)
            pending += x.nbytes
            if pending > data.portions.pending_bytes or writer.n_configs == data.n_configs:
                writer.commit({}, seconds=0.0)
                pending = 0
            progress.update(writer.n_configs, "")
            stop.raise_if_set()
        writer.finish()
    if n_wrapped:
        share = 100 * n_wrapped / (data.n_configs * len(chains) * math.prod(field.shape))
        progress.line(f"{n_wrapped} angles ({share:.3g} %) lay outside [-pi, pi) and were wrapped")
    progress.line(f"{data.n_configs} configurations x {len(chains)} chains")
    off = identity.pull()
    return _Found({} if off is None else {doubts.IDENTITY: off}, largest if n_wrapped else 0.0)


def _append(writer: EnsembleWriter, card: Card, x: np.ndarray) -> None:
    """Measure the block x (n, B, *event) as a running chain does, and append it to the ensemble."""
    flat = x.reshape(-1, *x.shape[2:])  # (n * B, *event)
    action = card.theory.action.evaluate(flat).reshape(x.shape[:2])
    series, every = measured(card.measurements, x, writer.n_configs)
    writer.append(Block(series={"action": action, **series}, every=every, fields=x))
