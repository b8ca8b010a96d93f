"""Import from another code: .npy arrays of configurations become an ensemble file for `analyse`."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lattice_flows.card.build import field_spec
from lattice_flows.card.card import Card, parse_card
from lattice_flows.ensembles import Block, Ensemble, EnsembleWriter
from lattice_flows.errors import InputError, unwritable
from lattice_flows.interchange.layouts import Layout, Links, MuAxis, Points
from lattice_flows.interchange.target import made_apart
from lattice_flows.production.origin import origin_attributes
from lattice_flows.statistics import MIN_LENGTH
from lattice_flows.terminal.interrupt import Stopped, StopRequest
from lattice_flows.terminal.progress import meter
from lattice_flows.theories.catalogue import THEORIES
from lattice_flows.theories.measurement import measured


@dataclass(frozen=True)
class Portions:
    """The amount of data that is read and written at once."""

    block_bytes: int = 16 << 20  # of fields in memory
    pending_bytes: int = 64 << 20  # of fields in a segment


_PORTIONS = Portions()


@dataclass(frozen=True)
class _Source:
    """One file, mapped into memory: x (config, chain, *event), in the type of the file."""

    path: Path
    x: np.ndarray
    sha256: str


def import_npy(
    paths: Sequence[Path],
    theory: dict[str, Any],
    out: Path,
    console: Console,
    stop: StopRequest,
    mu_axis: MuAxis = "first",
    portions: Portions = _PORTIONS,
) -> None:
    """Make the ensemble file `out` (NAME.h5) from configurations in .npy files, and measure the standard observables.

    paths    each (config, *event), one chain, or (config, chain, *event); several files are further chains of equal
             length. The event of U(1) is (2, L0, L1): real angles, which are wrapped into [-pi, pi), or complex links
             of modulus 1. links[..., mu, n0, n1] belongs to the link from n to n + mu, and mu is the lattice axis of
             the same number; other layouts must be transposed first. That of a theory without a lattice is its vector.
    theory   the [theory] table without its shape: {"name": "u1", "beta": 6.0}
    mu_axis  "last" for (config, [chain,] L0, L1, 2)
    portions amount of data read and written at once; the ensemble does not depend on it

    If it fails or is stopped, nothing is left behind. No pickled object is ever loaded. Raises InputError for input
    that does not fit, EnsembleError if the file cannot be written, Stopped on a signal: then start the import again.
    """
    if out.suffix != ".h5":
        raise InputError(f"{out}: an ensemble must be named NAME.h5")
    if Ensemble.exists(out):
        raise InputError(f"{out}: already exists and is not overwritten; choose another name")
    if not paths:
        raise InputError("import: give one or more .npy files")
    layout = _layout(theory, mu_axis)
    sources = [_Source(path, _mapped(path, layout), _sha256(path, stop)) for path in paths]
    _check_together(sources)
    card = _card(theory, sources[0].x.shape[-2:] if isinstance(layout, Links) else ())
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with made_apart(out) as unnamed:
            header = _header(out.stem, card, sources, layout)
            _write(unnamed, card, sources, header, layout, portions, stop, console)
            if Ensemble.exists(out):
                raise InputError(f"{out}: has appeared in the meantime and is not overwritten; choose another name")
    except OSError as error:
        raise unwritable(out, error) from None
    except Stopped as stopped:
        raise Stopped(stop.signal, "nothing was kept; import again") from stopped


def _layout(theory: dict[str, Any], mu_axis: MuAxis) -> Layout:
    """How configurations of the theory lie in an array. Wrong tables are found when the card is read."""
    constructor = THEORIES.get(theory["name"])
    if constructor is None or 0 not in constructor.dimensions:
        return Links(mu_axis)
    table = _card(theory, ()).theory
    return Points(field_spec(table).shape, table.action.space)


def _mapped(path: Path, layout: Layout) -> np.ndarray:
    """The array (config, chain, *event), mapped into memory. Raises InputError for other shapes, types and files."""
    try:
        x = np.lib.format.open_memmap(path, mode="r")  # knows arrays of numbers alone, no pickles and no archives
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except Exception as error:  # whatever numpy's reader of headers makes of hostile bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not an .npy file of numbers ({reason})") from None
    if x.dtype.kind not in layout.kinds:
        raise InputError(f"{path}: holds {x.dtype}; {layout.wanted}")
    if (arranged := layout.arranged(x)) is None:
        raise InputError(f"{path}: has the shape {x.shape}; it should be {layout.axes}{layout.advice(x)}")
    if len(x) < MIN_LENGTH:
        raise InputError(f"{path}: holds {len(x)} configurations; at least {MIN_LENGTH} are needed")
    return arranged


def _sha256(path: Path, stop: StopRequest) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PORTIONS.block_bytes):
            digest.update(piece)
            stop.raise_if_set()
    return digest.hexdigest()


def _check_together(sources: Sequence[_Source]) -> None:
    """Raise InputError if files differ in length or lattice, or one is given twice."""
    first, seen = sources[0], {sources[0].sha256: sources[0].path}
    for other in sources[1:]:
        if other.sha256 in seen:
            raise InputError(f"{other.path}: is the same as {seen[other.sha256]}; its chains would count twice")
        seen[other.sha256] = other.path
        for what, axes in (("configurations", slice(0, 1)), ("lattice", slice(3, 5))):
            if (found := other.x.shape[axes]) != (wanted := first.x.shape[axes]):
                raise InputError(
                    f"{other.path}: {what} {_by(found)}, but {first.path} has {_by(wanted)}; all files must agree"
                )


def _by(lengths: tuple[int, ...]) -> str:
    return " x ".join(map(str, lengths))


def _card(theory: dict[str, Any], shape: tuple[int, ...]) -> Card:
    """A card with only this theory, and so with its standard observables."""
    if "shape" in theory:
        raise InputError("import: the shape is taken from the arrays; leave it out")
    table = {**theory, "shape": list(shape)} if shape else theory
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    card = parse_card("\n".join(["[theory]", *lines, ""]), where="import")
    if shape and field_spec(card.theory).dims[0] != "mu":
        raise InputError(f"import: takes link angles of a U(1) theory, but the theory is {card.theory.name}")
    return card


def _header(name: str, card: Card, sources: Sequence[_Source], layout: Layout) -> dict[str, str | int]:
    """The root attributes: those of a generated ensemble, and the files from which it was imported."""
    files = [{"name": source.path.name, "sha256": source.sha256} for source in sources]
    sampler = {"name": "imported", "n_updates": 1, "start": "", "n_thermalisation": 0}
    mu_axis = {"imported_mu_axis": layout.mu_axis} if isinstance(layout, Links) else {}
    return origin_attributes(name, card.theory.as_dict(), sampler, card.measurements) | {
        "imported_from": json.dumps(files),
        **mu_axis,
    }


def _write(
    path: Path,
    card: Card,
    sources: Sequence[_Source],
    header: dict[str, str | int],
    layout: Layout,
    portions: Portions,
    stop: StopRequest,
    console: Console,
) -> None:
    n_configs = len(sources[0].x)
    chains, field = range(sum(source.x.shape[1] for source in sources)), field_spec(card.theory)
    n_wrapped = 0
    with (
        meter(console, str(header["name"]), n_configs, "configurations") as progress,
        Ensemble.create(path, header=header, chains=chains, field=field, store_fields=True) as writer,
    ):
        pending = 0
        for x, n_outside in _blocks(sources, layout, portions.block_bytes):
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


def _blocks(sources: Sequence[_Source], layout: Layout, block_bytes: int) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks (n, B, *event) of standard representatives from all files, and the number of those that were wrapped."""
    n_configs = len(sources[0].x)
    row_bytes = sum(8 * math.prod(source.x.shape[1:]) for source in sources)
    step = max(1, block_bytes // row_bytes)
    for start in range(0, n_configs, step):
        parts = [layout.numbers(source.path, source.x[start : start + step], start) for source in sources]
        x = np.ascontiguousarray(np.concatenate(parts, axis=1))
        n_wrapped = layout.wrap(x)
        yield x, n_wrapped
