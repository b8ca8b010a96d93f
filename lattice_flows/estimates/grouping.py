"""Ensemble files put together: those of one ensemble are replicas, and no chain counts twice."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.production.header import chain_digests
from lattice_flows.production.header_check import check_header
from lattice_flows.production.origin import text_as_before
from lattice_flows.regular_files import real
from lattice_flows.statistics.shared_values import shared_values

_ACTION = "action"
_COMMANDS = re.compile(r"[^\w .,:;+=@%()/~-]")  # what a name on a card has none of, but folders and other files may


def open_replicas(paths: Sequence[Path], stack: ExitStack) -> list[Replicas]:
    """The ensembles in these files; files of equal theory, sampler, card and name are grouped together.

    Different ensembles of the same name are renamed FOLDER/NAME. Raises InputError for files of different theories,
    EnsembleError for a file that cannot be read.
    """
    return grouped([stack.enter_context(Ensemble.open(path)) for path in paths])


def grouped(files: Sequence[Ensemble]) -> list[Replicas]:
    """The ensembles in these open files, see `open_replicas`."""
    groups: dict[tuple[str, ...], list[Ensemble]] = {}
    for file in files:
        keys = ("name", "theory", "sampler", "card", "observables", "threads")
        if missing := [key for key in keys if file.header(key) is None]:
            raise InputError(f"{file.path}: has no attribute {missing[0]!r}; it was not written by lattice-flows")
        check_header(file)
        attributes = file.attributes
        key = tuple(text_as_before(attributes, one) for one in ("name", "theory", "sampler", "card", "flow_sha256"))
        groups.setdefault(key, []).append(file)
    for members in groups.values():
        _require_different_chains(members)
    theories = {key[1]: members[0].path for key, members in groups.items()}
    if len(theories) > 1:
        (first, one), (second, other), *_ = theories.items()
        raise InputError(f"{one} and {other}: different theories, {first} and {second}; analyse them separately")
    labels = _labels([(key[0], members[0].path) for key, members in groups.items()])
    return [Replicas(label, tuple(members)) for label, members in zip(labels, groups.values())]


def _require_different_chains(files: Sequence[Ensemble]) -> None:
    """Raise InputError if any chain is in two of the files: it would count twice."""
    digests = [chain_digests(file.attributes) for file in files]
    by_content = None not in digests
    holders: dict[Any, Path] = {}
    for file, held in zip(files, digests):
        numbers = range(file.first_chain, file.first_chain + file.n_chains)
        chains = [(str(file.header("seed")), number) for number in numbers]
        for chain in filter(None, held) if by_content and held else chains:
            holder = holders.setdefault(chain, file.path)
            if holder is not file.path:
                raise InputError(f"{file.path}: holds the same chains as {holder}; give only one of them")
    if by_content and len(files) > 1:
        _require_no_overlap([file for file in files if file.has_fields and _ACTION in file.series_names])


def _require_no_overlap(files: Sequence[Ensemble]) -> None:
    """Raise InputError if two imported files have configurations in common: parts of one chain, say.

    They are told by S, which of real numbers is never the same by chance.
    """
    files = [file for file in files if np.dtype(file.field.dtype).kind == "f"]
    chains = [chain for file in files for chain in file.series(_ACTION).T]
    if not chains or (both := shared_values(chains)) is None:
        return
    owners = [file.path for file in files for _ in range(file.n_chains)]
    first, second = (owners[number] for number in both)
    if first != second:
        raise InputError(f"{second}: has configurations in common with {first}; give only one of them")


def _labels(found: list[tuple[str, Path]]) -> list[str]:
    """The ensembles' names; equal ones are prefixed with as many of their folders as it takes to distinguish them."""
    labels = [_shown(name) for name, _ in found]
    for depth in range(1, 32):
        equal = {label for label in labels if labels.count(label) > 1}
        for index, (name, path) in enumerate(found):
            if labels[index] in equal:
                folders = real(path).parent.parent.parts[-depth:]  # above the folder "ensembles"
                labels[index] = _shown("/".join([*(part.strip("/") for part in folders), name]))
    return labels


def _shown(name: str) -> str:
    """The name without what tables, figures or terminals take for commands of theirs, such as $, [ and escapes."""
    return _COMMANDS.sub("?", name)
