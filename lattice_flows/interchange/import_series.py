"""Import of series alone: columns of text files become an ensemble file without fields."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lattice_flows.card.build import field_spec
from lattice_flows.card.card import Card
from lattice_flows.ensembles import Block, Ensemble, EnsembleError
from lattice_flows.ensembles.layout import check_name
from lattice_flows.errors import InputError, nothing_at
from lattice_flows.interchange import doubts
from lattice_flows.interchange.fingerprints import Fingerprints
from lattice_flows.interchange.imported import (
    card_of,
    check_target,
    header_of,
    made_at,
    nothing_kept,
    require_different_chains,
    tell,
)
from lattice_flows.interchange.sources import common_length
from lattice_flows.lattice import REAL
from lattice_flows.regular_files import require_regular
from lattice_flows.statistics import MIN_LENGTH
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.theories.catalogue import THEORIES
from lattice_flows.theories.measurement import Measurement
from lattice_flows.theories.observable import Stored

LEFT_OUT = "_"  # in place of the name of a column

_LONGEST_LINE = 1 << 16
_REASONS = ("other couplings", "another normalisation", "not thermalised")


def import_series(
    paths: Sequence[Path],
    theory: dict[str, Any],
    shape: tuple[int, ...],
    names: Sequence[str],
    out: Path,
    console: Console,
    stop: StopRequest,
    shorten: bool = False,
) -> None:
    """Make the ensemble file `out` (NAME.h5) from series in text files, one chain each.

    paths    a line for each configuration, a column for each observable, parted by blanks or by commas; what follows a
             "#" is a comment, and so is a first line of words
    theory   the [theory] table without its shape: {"name": "u1", "beta": 6.0}
    shape    of the lattice, () for a theory without one
    names    of the columns, "_" for one that is left out. Series named as standard observables of the theory are
             compared with their closed forms; others are known by their means alone.
    shorten  take of each chain only as many configurations as the shortest has

    Raises the same errors as `import_fields`, and tells the same doubts.
    """
    check_target(out)
    known = THEORIES.get(str(theory.get("name")))
    if known is not None and not shape and 0 not in known.dimensions:
        raise InputError("import: --shape is missing: the sides of the lattice, such as --shape 16,16")
    card = card_of(theory, shape)
    if len({*names} - {LEFT_OUT}) != len(names) - list(names).count(LEFT_OUT):
        raise InputError(f"--series {','.join(names)}: names a series twice")
    kept = [column for column, name in enumerate(names) if name != LEFT_OUT]
    for column in kept:
        try:
            check_name(names[column], "--series")
        except EnsembleError as error:
            raise InputError(str(error)) from None
    if not kept:
        raise InputError(f"--series {','.join(names)}: names no series")
    with nothing_kept(stop):
        tables = [_columns(path, names)[:, kept] for path in paths]
        n_configs = common_length([(str(path), len(table)) for path, table in zip(paths, tables)], shorten)
        values = np.stack([table[:n_configs] for table in tables], axis=1)  # (config, chain, column)
        fingerprints = Fingerprints(REAL)
        fingerprints.add(values)
        require_different_chains(fingerprints, list(map(str, paths)))
        series = {names[column]: np.ascontiguousarray(values[..., k]) for k, column in enumerate(kept)}
        header = header_of(
            out.stem, card, _measurements(card, list(series)), [[path] for path in paths], fingerprints, stop
        )
        with made_at(out) as unnamed:
            chains, field = range(len(paths)), field_spec(card.theory)
            with Ensemble.create(unnamed, header=header, chains=chains, field=field, store_fields=False) as writer:
                writer.append(Block(series=series))
                writer.commit({}, seconds=0.0)
                writer.finish()
        with Ensemble.open(out) as made:
            far = doubts.pulls(made, card)
        text = f"{n_configs} configurations x {len(paths)} chains of {', '.join(series)}; no fields"
        console.print(f"{out.stem}  {text}", markup=False, highlight=False, soft_wrap=True)
        tell(console, out.stem, doubts.warning(far, _REASONS))


def parse_series(series: str, shape: str, axes: str) -> tuple[list[str], tuple[int, ...]]:
    """The names of columns in "plaquette,_,action" and the lattice "16,16"; none of either for an import of fields.

    Raises InputError for options that do not go together.
    """
    if not series:
        if shape:
            raise InputError(f"--shape {shape}: the shape is taken from the arrays; leave it out")
        return [], ()
    if axes:
        raise InputError(f"--axes {axes}: is for arrays of fields; with --series the columns are named")
    try:
        lattice = tuple(int(side) for side in shape.split(",")) if shape else ()
    except ValueError:
        raise InputError(f"--shape {shape}: must be the sides of the lattice, such as 16,16") from None
    return [name.strip() for name in series.split(",")], lattice


def _measurements(card: Card, names: Sequence[str]) -> list[Measurement]:
    """The theory's standard observables among these, and the others as what is stored."""
    standard = {one.observable.name: one for one in card.measurements}
    return [standard.get(name) or Measurement(Stored(name), 1) for name in names]


def _columns(path: Path, names: Sequence[str]) -> np.ndarray:
    """The columns of a text file, (n, len(names)). Raises InputError for anything but finite numbers."""
    try:
        require_regular(path)
        with path.open(encoding="utf-8-sig") as file:
            lines = filter(_content, iter(lambda: file.readline(_LONGEST_LINE), ""))
            first = next(lines, "")
            delimiter = "," if "," in first else None
            if not _are_numbers(first):
                first = next(lines, "")
            if not first:
                raise ValueError("there are none")
            table = np.loadtxt(chain([first], lines), delimiter=delimiter, ndmin=2)
    except OSError as error:
        raise nothing_at(path, error.strerror or "cannot be read") from None
    except ValueError as error:
        reason = " ".join(str(error).split()).partition(";")[0]
        raise InputError(f"{path}: no columns of numbers ({reason})") from None
    if table.shape[1] != len(names):
        raise InputError(
            f"{path}: has {table.shape[1]} columns, but --series names {len(names)}; name each, with _ for one that "
            "is left out"
        )
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise InputError(f"{path}: configuration {row}: {names[column]} is not finite")
    if len(table) < MIN_LENGTH:
        raise InputError(f"{path}: {len(table)} configurations; at least {MIN_LENGTH} are needed")
    return table


def _content(line: str) -> str:
    """What the line says, without its comment."""
    return line.partition("#")[0].strip()


def _are_numbers(line: str) -> bool:
    """Whether any word of the line is one; else they are headings."""
    for word in _content(line).replace(",", " ").split():
        try:
            float(word)
        except ValueError:
            continue
        return True
    return False
