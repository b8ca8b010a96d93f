"""Import from another code: .npy arrays of fields become an ensemble file for `analyse`."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lattice_flows.card.build import field_spec
from lattice_flows.card.card import Card, parse_card
from lattice_flows.ensembles import Block, Ensemble, EnsembleWriter
from lattice_flows.errors import InputError, unwritable
from lattice_flows.interchange.npy_fields import MU, Layout, MuAxis, Source, blocks, mapped
from lattice_flows.interchange.target import made_apart
from lattice_flows.production.origin import origin_attributes
from lattice_flows.terminal.interrupt import Stopped, StopRequest
from lattice_flows.terminal.progress import meter
from lattice_flows.theories.catalogue import THEORIES
from lattice_flows.theories.measurement import measured

_ANY_EXTENT = 4


@dataclass(frozen=True)
class Portions:
    """The amount of data that is read and written at once."""

    block_bytes: int = 16 << 20  # of fields in memory
    pending_bytes: int = 64 << 20  # of fields in a segment


_PORTIONS = Portions()


def import_npy(
    paths: Sequence[Path],
    theory: dict[str, Any],
    out: Path,
    console: Console,
    stop: StopRequest,
    mu_axis: MuAxis = "first",
    dimension: int | None = None,
    portions: Portions = _PORTIONS,
) -> None:
    """Make the ensemble file `out` (NAME.h5) from fields in .npy files, and measure the standard observables.

    paths      each (config, *event), one chain, or (config, chain, *event); several files are further chains of equal
               length. event is the shape of a configuration: (2, L0, L1) for links of a 2D gauge theory, (L0, L1) for
               spins. Angles are real, and wrapped into [-pi, pi), or complex numbers of modulus 1.
               links[..., mu, n0, n1] belongs to the link from n to n + mu, and mu is the lattice axis of the same
               number; other layouts must be transposed first.
    theory     the [theory] table without its shape: {"name": "u1", "beta": 6.0}
    mu_axis    "last" for (config, [chain,] L0, L1, 2)
    dimension  of the lattice, for a theory that lives in several
    portions   amount of data read and written at once; the ensemble does not depend on it

    If it fails or is stopped, nothing is left behind. No pickled object is ever loaded. Raises InputError for input
    that does not fit, EnsembleError if the file cannot be written, Stopped on a signal: then start the import again.
    """
    if out.suffix != ".h5":
        raise InputError(f"{out}: an ensemble must be named NAME.h5")
    if Ensemble.exists(out):
        raise InputError(f"{out}: already exists and is not overwritten; choose another name")
    if not paths:
        raise InputError("import: give one or more .npy files")
    layout = _layout(theory, dimension)
    sources = [Source(path, mapped(path, layout, mu_axis), _sha256(path, stop)) for path in paths]
    _check_together(sources, layout)
    card = _card(theory, layout.lattice_shape(sources[0].event))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with made_apart(out) as unnamed:
            header = _header(out.stem, card, sources, mu_axis)
            _write(unnamed, card, sources, header, layout, portions, stop, console)
            if Ensemble.exists(out):
                raise InputError(f"{out}: has appeared in the meantime and is not overwritten; choose another name")
    except OSError as error:
        raise unwritable(out, error) from None
    except Stopped as stopped:
        raise Stopped(stop.signal, "nothing was kept; import again") from stopped


def _layout(theory: dict[str, Any], dimension: int | None) -> Layout:
    """The axes and the space of this theory's fields."""
    if "shape" in theory:
        raise InputError("import: the shape is taken from the arrays; leave it out")
    known = THEORIES.get(str(theory.get("name")))
    allowed = known.dimensions if known else range(2, 3)  # the card refuses an unknown theory
    if dimension is None and len(allowed) > 1:
        raise InputError(
            f"import: {theory['name']} lives in {allowed[0]} to {allowed[-1]} dimensions; give the dimension"
        )
    card = _card(theory, (_ANY_EXTENT,) * (allowed[0] if dimension is None else dimension))
    return Layout.of(field_spec(card.theory), card.theory.action.space)


def _sha256(path: Path, stop: StopRequest) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PORTIONS.block_bytes):
            digest.update(piece)
            stop.raise_if_set()
    return digest.hexdigest()


def _check_together(sources: Sequence[Source], layout: Layout) -> None:
    """Raise InputError if files differ in length or lattice, or one is given twice."""
    first, seen = sources[0], {sources[0].sha256: sources[0].path}
    for other in sources[1:]:
        if other.sha256 in seen:
            raise InputError(f"{other.path}: is the same as {seen[other.sha256]}; its chains would count twice")
        seen[other.sha256] = other.path
        lengths = [(len(one.fields),) for one in (other, first)]
        lattices = [layout.lattice_shape(one.event) for one in (other, first)]
        for what, (found, wanted) in (("configurations", lengths), ("lattice", lattices)):
            if found != wanted:
                raise InputError(
                    f"{other.path}: {what} {_by(found)}, but {first.path} has {_by(wanted)}; all files must agree"
                )


def _by(lengths: tuple[int, ...]) -> str:
    return " x ".join(map(str, lengths))


def _card(theory: dict[str, Any], shape: tuple[int, ...]) -> Card:
    """A card with only this theory, on a lattice of this shape if on any, and so with its standard observables."""
    table = {**theory, "shape": list(shape)} if shape else theory
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return parse_card("\n".join(["[theory]", *lines, ""]), where="import")


def _header(name: str, card: Card, sources: Sequence[Source], mu_axis: MuAxis) -> dict[str, str | int]:
    """The root attributes: those of a generated ensemble, and the files from which it was imported."""
    files = [{"name": source.path.name, "sha256": source.sha256} for source in sources]
    sampler = {"name": "imported", "n_updates": 1, "start": "", "n_thermalisation": 0}
    directions = {"imported_mu_axis": mu_axis} if MU in field_spec(card.theory).dims else {}
    return (
        origin_attributes(name, card.theory.as_dict(), sampler, card.measurements)
        | {"imported_from": json.dumps(files)}
        | directions
    )


def _write(
    path: Path,
    card: Card,
    sources: Sequence[Source],
    header: dict[str, str | int],
    layout: Layout,
    portions: Portions,
    stop: StopRequest,
    console: Console,
) -> None:
    n_configs = len(sources[0].fields)
    chains, field = range(sum(source.fields.shape[1] for source in sources)), field_spec(card.theory)
    n_wrapped = 0
    with (
        meter(console, str(header["name"]), n_configs, "configurations") as progress,
        Ensemble.create(path, header=header, chains=chains, field=field, store_fields=True) as writer,
    ):
        pending = 0
        for x, n_outside in blocks(sources, layout, portions.block_bytes):
            _append(writer, card, x)
            n_wrapped += n_outside
            pending += x.nbytes
            if pending > portions.pending_bytes or writer.n_configs == n_configs:
                writer.commit({}, seconds=0.0)
                pending = 0
            progress.update(writer.n_configs, "")
            stop.raise_if_set()
        writer.finish()
        if n_wrapped:
            share = n_wrapped / (n_configs * len(chains) * math.prod(field.shape))
            progress.line(f"{n_wrapped} angles ({100 * share:.3g} %) lay outside [-pi, pi) and were wrapped")
        progress.line(f"{n_configs} configurations x {len(chains)} chains")


def _append(writer: EnsembleWriter, card: Card, x: np.ndarray) -> None:
    """Measure the block x (n, B, *event) as a running chain does, and append it to the ensemble."""
    flat = x.reshape(-1, *x.shape[2:])  # (n * B, *event)
    action = card.theory.action.evaluate(flat).reshape(x.shape[:2])
    series, every = measured(card.measurements, x, writer.n_configs)
    writer.append(Block(series={"action": action, **series}, every=every, fields=x))
