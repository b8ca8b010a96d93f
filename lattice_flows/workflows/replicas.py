"""Ensemble files of one name, theory, sampler and card, read together as replicas."""

import functools
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lattice_flows.ensembles import Ensemble
from lattice_flows.observables import Observable, Quantity
from lattice_flows.workflows.errors import InputError
from lattice_flows.workflows.measurements import Measurement

LOG_W = "log_w"


@dataclass(frozen=True)
class Replicas:
    """The files of one ensemble, open for reading, and which part of them counts.

    first, every: configurations count from this number on, if their number is a multiple of `every`.
    target: the [theory] table that averages are reweighted to, and log_ratios the S - S' that this takes, for each
        file an array (n_configs, n_chains).
    derived: quantities beside those of the observables.
    """

    name: str
    files: tuple[Ensemble, ...]
    first: int = 0
    every: int = 1
    target: dict[str, Any] | None = None
    log_ratios: tuple[np.ndarray, ...] = ()
    derived: tuple[Quantity, ...] = ()
    drifts: bool = False  # a thermalisation was looked for, and hardly found

    @property
    def sampled_theory(self) -> dict[str, Any]:
        """The [theory] table that the chains sample."""
        return json.loads(self.files[0].attributes["theory"])

    @property
    def theory(self) -> dict[str, Any]:
        """The [theory] table that averages are of."""
        return self.target or self.sampled_theory

    @property
    def sampler(self) -> dict[str, Any]:
        """The sampler's card name and arguments."""
        return json.loads(self.files[0].attributes["sampler"])

    @property
    def weighted(self) -> bool:
        """Whether averages need the series log_w."""
        return bool(self.log_ratios or self.files[0].attributes["weighted"])

    @property
    def sampled_with_weights(self) -> bool:
        """Whether averages in the theory that was sampled need weights."""
        return bool(self.files[0].attributes["weighted"])

    @property
    def n_chains(self) -> int:
        """Chains of all files."""
        return sum(file.n_chains for file in self.files)

    @property
    def n_configs(self) -> int:
        """Configurations per chain that count; of the shortest file where they differ."""
        return min(self._numbers(file, LOG_W).size for file in self.files)

    @property
    def n_configs_of_longest(self) -> int:
        """Configurations per chain that count, of the longest file."""
        return max(self._numbers(file, LOG_W).size for file in self.files)

    @property
    def n_kept(self) -> int:
        """Configurations of all chains that count."""
        return sum(self._numbers(file, LOG_W).size * file.n_chains for file in self.files)

    def has(self, name: str) -> bool:
        """Whether the series was measured in every file, equally often."""
        return all(name in file.series_names for file in self.files) and len(self._everies(name)) == 1

    def is_dense(self, name: str) -> bool:
        """Whether the series was measured on every configuration."""
        return self.has(name) and self._everies(name) == {1}

    def partly_measured(self) -> list[str]:
        """The observables that were measured in some of the files only, or not equally often."""
        return [one.name for one in self.observables() if not self.has(one.name)]

    def _everies(self, name: str) -> set[int]:
        return {file.every(name) for file in self.files if name in file.series_names}

    def series(self, name: str) -> list[np.ndarray]:
        """The series of every chain, as the replicas of the Gamma method."""
        chains = []
        for k, file in enumerate(self.files):
            values = self._log_w(k) if name == LOG_W and self.log_ratios else file.series(name)
            chains += list(values[self._counted(_all_numbers(file, name))].T)
        return chains

    def rows(self, name: str) -> list[np.ndarray]:
        """The numbers of the configurations that the series was measured on, for every chain."""
        return [numbers for file in self.files for numbers in [self._numbers(file, name)] for _ in range(file.n_chains)]

    def series_like(self, name: str, other: str) -> list[np.ndarray]:
        """The series `name`, measured on every configuration, where the series `other` was measured too."""
        return self.together(name, other)[0]

    def together(self, *names: str) -> list[list[np.ndarray]]:
        """Of each of these series every chain, on the configurations on which all of them were measured."""
        rows = [self.rows(name) for name in names]
        if all(np.array_equal(a, b) for other in rows[1:] for a, b in zip(rows[0], other)):
            return [self.series(name) for name in names]
        common = [functools.reduce(np.intersect1d, one) for one in zip(*rows)]
        return [
            [chain[np.searchsorted(held, wanted)] for chain, held, wanted in zip(self.series(name), own, common)]
            for name, own in zip(names, rows)
        ]

    def _numbers(self, file: Ensemble, name: str) -> np.ndarray:
        """The numbers of the configurations that count among those that the series was measured on."""
        numbers = _all_numbers(file, name)
        return numbers[self._counted(numbers)]

    def _counted(self, numbers: np.ndarray) -> np.ndarray | slice:
        """The places of the configurations that count among those of these (ascending) numbers."""
        if self.first == 0 and self.every == 1:
            return slice(None)
        return np.flatnonzero((numbers >= self.first) & (numbers % self.every == 0))

    def _log_w(self, k: int) -> np.ndarray:
        """The log weights of file k for the target."""
        file = self.files[k]
        return self.log_ratios[k] + (file.series(LOG_W) if file.attributes["weighted"] else 0.0)

    def proposals(self, name: str) -> np.ndarray | None:
        """What is known of all proposals, (m,), or None."""
        if name not in self.files[0].proposal_names:
            return None
        return np.concatenate([file.proposals(name).ravel() for file in self.files])

    def observables(self) -> list[Observable]:
        """What was measured, in any of the files."""
        tables = [table for file in self.files for table in json.loads(file.attributes["observables"])]
        measured = [Measurement.from_dict(table).observable for table in tables]
        return list({one.name: one for one in measured}.values())

    def quantities(self) -> list[Quantity]:
        """What can be estimated from the series that were measured."""
        shape = tuple(self.theory["shape"])
        every = [quantity for observable in self.observables() for quantity in observable.quantities(shape)]
        measured = [quantity for quantity in every if all(self.has(term.series) for term in quantity.terms)]
        return [*measured, *self.derived]


def _all_numbers(file: Ensemble, name: str) -> np.ndarray:
    """The numbers of the configurations that the series was measured on; log weights are of all of them."""
    return np.arange(file.n_configs) if name == LOG_W else file.series_configs(name)


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
