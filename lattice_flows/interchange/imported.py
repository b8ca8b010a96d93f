"""What all imports share: the card of the theory that was sampled, the new file, the header that tells its origin."""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from lattice_flows.card.card import Card, parse_card
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError, unwritable
from lattice_flows.interchange.arrays import path_and_name
from lattice_flows.interchange.fingerprints import Fingerprints
from lattice_flows.interchange.sources import sha256_of
from lattice_flows.interchange.target import made_apart, remove_leftovers
from lattice_flows.production.header import CHAIN_DIGESTS
from lattice_flows.production.origin import origin_attributes
from lattice_flows.terminal.interrupt import Stopped, StopRequest
from lattice_flows.theories.catalogue import THEORIES
from lattice_flows.theories.measurement import Measurement


@dataclass(frozen=True)
class Portions:
    """The amount of data that is read and written at once."""

    block_bytes: int = 16 << 20  # of fields in memory
    pending_bytes: int = 64 << 20  # of fields in a segment


PORTIONS = Portions()


def check_target(out: Path) -> None:
    """Raise InputError unless `out` can become a new ensemble NAME.h5."""
    if out.suffix != ".h5":
        raise InputError(f"{out}: an ensemble must be named NAME.h5")
    if Ensemble.exists(out):
        remove_leftovers(out)  # of one that was killed when all was done
        raise InputError(f"{out}: already exists and is not overwritten; choose another name")


@contextmanager
def made_at(out: Path) -> Iterator[Path]:
    """Yield the path at which to make the ensemble; it becomes `out` if the block succeeds, else nothing is left.

    Raises InputError if `out` has appeared in the meantime or cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with made_apart(out) as unnamed:
            yield unnamed
            if Ensemble.exists(out):
                raise InputError(f"{out}: has appeared in the meantime and is not overwritten; choose another name")
    except OSError as error:
        raise unwritable(out, error) from None


@contextmanager
def nothing_kept(stop: StopRequest) -> Iterator[None]:
    """Let a signal say what to do then."""
    try:
        yield
    except Stopped as stopped:
        raise Stopped(stop.signal, "nothing was kept; import again") from stopped


def card_of(theory: Mapping[str, Any], shape: tuple[int, ...]) -> Card:
    """A card with only this theory, on a lattice of this shape if on any, and so with its standard observables."""
    _require_couplings(theory)
    table = {**theory, "shape": list(shape)} if shape else theory
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return parse_card("\n".join(["[theory]", *lines, ""]), where="import")


def _require_couplings(theory: Mapping[str, Any]) -> None:
    """Raise InputError for a coupling that is not given and has no default."""
    constructor = THEORIES.get(str(theory.get("name")))
    wanted = {} if constructor is None else inspect.signature(constructor).parameters
    if missing := [name for name, one in wanted.items() if one.default is one.empty and name not in theory]:
        raise InputError(f"import: {theory['name']} has the coupling {missing[0]!r}; give --coupling {missing[0]}=X")


def header_of(
    name: str,
    card: Card,
    measurements: Sequence[Measurement],
    sources: Sequence[Sequence[Path]],
    fingerprints: Fingerprints,
    stop: StopRequest,
) -> dict[str, str | int]:
    """The root attributes: those of a generated ensemble, the files of the sources from which it was imported, and the
    digests by which its chains are told from those of other imports.
    """
    sampler = {"name": "imported", "n_updates": 1, "start": "", "n_thermalisation": 0}
    origin = [{"name": _name(files), "sha256": sha256_of(files, stop)} for files in sources]
    return origin_attributes(name, card.theory.as_dict(), sampler, measurements) | {
        "imported_from": json.dumps(origin),
        CHAIN_DIGESTS: json.dumps(fingerprints.digests),
    }


def _name(files: Sequence[Path]) -> str:
    """The name of a source without its folder: FILE, FILE:ARRAY, or "FIRST ... LAST" of many files."""
    file, array = path_and_name(files[0])
    name = f"{file.name}:{array}" if array else file.name
    return name if len(files) == 1 else f"{name} ... {_name(files[-1:])}"


def require_different_chains(fingerprints: Fingerprints, labels: Sequence[str]) -> None:
    """Raise InputError if two chains are one. labels: of each chain."""
    if (twins := fingerprints.twins()) is not None:
        first, second = (labels[number] for number in twins)
        raise InputError(f"{second}: is the same as {first}, to single precision; its configurations would count twice")


def require_no_overlap(fingerprints: Fingerprints, labels: Sequence[str]) -> None:
    """Raise InputError if two chains have configurations in common. labels: of each chain."""
    if (both := fingerprints.overlapping()) is not None:
        first, second = (labels[number] for number in both)
        raise InputError(f"{second}: has configurations in common with {first}, which would count twice; leave one out")


def tell(console: Console, name: str, warning: str) -> None:
    """Print a doubt, if there is any."""
    if warning:
        console.print(f"warning: {name}: {warning}", markup=False, highlight=False, soft_wrap=True)
