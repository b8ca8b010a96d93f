"""Ensemble files of one name, theory, sampler and card, read together as replicas."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lattice_flows.ensembles import Ensemble
from lattice_flows.observables import Observable, Quantity
from lattice_flows.workflows.card import Measurement
from lattice_flows.workflows.errors import InputError


@dataclass(frozen=True)
class Replicas:
    """The files of one ensemble, open for reading."""

    name: str
    files: tuple[Ensemble, ...]

    @property
    def theory(self) -> dict[str, Any]:
        """The [theory] table."""
        return json.loads(self.files[0].attributes["theory"])

    @property
    def sampler(self) -> dict[str, Any]:
        """The sampler's card name and arguments."""
        return json.loads(self.files[0].attributes["sampler"])

    @property
    def weighted(self) -> bool:
        """Whether averages need the series log_w."""
        return bool(self.files[0].attributes["weighted"])

    @property
    def n_chains(self) -> int:
        """Chains of all files."""
        return sum(file.n_chains for file in self.files)

    @property
    def n_configs(self) -> int:
        """Configurations per chain; of the shortest file where they differ."""
        return min(file.n_configs for file in self.files)

    def has(self, name: str) -> bool:
        """Whether the series was measured."""
        return name in self.files[0].series_names

    def series(self, name: str) -> list[np.ndarray]:
        """The series of every chain, as the replicas of the Gamma method."""
        return [chain for file in self.files for chain in file.series(name).T]

    def rows(self, name: str) -> list[np.ndarray]:
        """The configurations that the series was measured on, for every chain."""
        return [file.series_configs(name) for file in self.files for _ in range(file.n_chains)]

    def proposals(self, name: str) -> np.ndarray | None:
        """What is known of all proposals, (m,), or None."""
        if name not in self.files[0].proposal_names:
            return None
        return np.concatenate([file.proposals(name).ravel() for file in self.files])

    def observables(self) -> list[Observable]:
        """What was measured."""
        tables = json.loads(self.files[0].attributes["observables"])
        return [Measurement.from_dict(table).observable for table in tables]

    def quantities(self) -> list[Quantity]:
        """What can be estimated from the series that were measured."""
        shape = tuple(self.theory["shape"])
        every = [quantity for observable in self.observables() for quantity in observable.quantities(shape)]
        return [quantity for quantity in every if all(self.has(term.series) for term in quantity.terms)]


def open_replicas(paths: Sequence[Path], stack: ExitStack) -> list[Replicas]:
    """The ensembles of these files, those of equal theory, sampler, card and name together.

    Other ensembles of one name become FOLDER/NAME. Raises InputError for files of different theories, EnsembleError
    for a file that cannot be read.
    """
    groups: dict[tuple[str, ...], list[tuple[Path, Ensemble]]] = {}
    for path in paths:
        file = stack.enter_context(Ensemble.open(path))
        attributes = file.attributes
        if missing := [key for key in ("name", "theory", "sampler", "card", "observables") if key not in attributes]:
            raise InputError(f"{path}: does not say its {missing[0]}; it was not written by lattice-flows")
        key = tuple(str(attributes.get(key)) for key in ("name", "theory", "sampler", "card", "flow_sha256"))
        _check_new(path, file, groups.setdefault(key, []))
        groups[key].append((path, file))
    theories = {key[1]: members[0][0] for key, members in groups.items()}
    if len(theories) > 1:
        (first, one), (second, other), *_ = theories.items()
        raise InputError(f"{one} and {other}: different theories, {first} and {second}; analyse them apart")
    labels = _labels([(key[0], members[0][0]) for key, members in groups.items()])
    return [Replicas(label, tuple(file for _, file in members)) for label, members in zip(labels, groups.values())]


def _check_new(path: Path, file: Ensemble, members: list[tuple[Path, Ensemble]]) -> None:
    """Raises InputError where the same chains are there already: they would count twice."""
    chains = set(range(file.first_chain, file.first_chain + file.n_chains))
    for other_path, other in members:
        same = chains & set(range(other.first_chain, other.first_chain + other.n_chains))
        if same and other.attributes.get("seed") == file.attributes.get("seed"):
            raise InputError(f"{path}: holds the same chains as {other_path}; give one of them")


def _labels(found: list[tuple[str, Path]]) -> list[str]:
    """The ensembles' names; equal ones get as many of their folders in front as it takes to tell them apart."""
    labels = [name for name, _ in found]
    for depth in range(1, 32):
        equal = {label for label in labels if labels.count(label) > 1}
        for index, (name, path) in enumerate(found):
            if labels[index] in equal:
                folders = path.resolve().parent.parent.parts[-depth:]  # above the folder "ensembles"
                labels[index] = "/".join([*(part.strip("/") for part in folders), name])
    return labels
