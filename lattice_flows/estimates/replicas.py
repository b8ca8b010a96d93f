"""Ensemble files of one name, theory, sampler and card, read together as replicas."""

import functools
import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lattice_flows.card.build import action_of, lattice_shape_of
from lattice_flows.ensembles import Ensemble
from lattice_flows.ensembles.finite import where_not_finite
from lattice_flows.estimates.summary_types import Settings, Theory
from lattice_flows.production.origin import Origin
from lattice_flows.statistics import LazyReplicas, normalised_in_sets, population_log_w
from lattice_flows.theories.measurement import Measurement
from lattice_flows.theories.observable import Observable, Quantity, Term

LOG_W = "log_w"
_KEPT_BYTES = 96 << 20  # of series that are asked for again and again


@dataclass(frozen=True)
class Replicas:
    """The files of one ensemble, open for reading, and the selection of configurations that count.

    first, every: configurations count from number `first` on, if their number is a multiple of `every`.
    target: the [theory] table to which averages are reweighted, with log_ratios the S - S' for that, an array
        (n_configs, n_chains) for each file.
    derived: quantities in addition to those of the observables.
    """

    name: str
    files: tuple[Ensemble, ...]
    first: int = 0
    every: int = 1
    target: Theory | None = None
    log_ratios: tuple[np.ndarray, ...] = ()
    derived: tuple[Quantity, ...] = ()
    drifts: bool = False  # a thermalisation was looked for, and hardly found

    @property
    def sampled_theory(self) -> Theory:
        """The [theory] table that the chains sample."""
        return Origin(self.files[0].attributes).theory

    @property
    def theory(self) -> Theory:
        """The [theory] table to which averages belong."""
        return self.target or self.sampled_theory

    @property
    def sampler(self) -> Settings:
        """The sampler's card name and arguments."""
        return Origin(self.files[0].attributes).sampler

    @property
    def weighted(self) -> bool:
        """Whether averages need the series log_w."""
        return bool(self.log_ratios) or self.sampled_with_weights

    @property
    def sampled_with_weights(self) -> bool:
        """Whether averages in the theory that was sampled need weights."""
        return Origin(self.files[0].attributes).weighted

    @property
    def chains_per_set(self) -> int | None:
        """How many consecutive chains form a set, with a constant of log_w of its own unless it is a population; None
        if all chains are alike."""
        return Origin(self.files[0].attributes).chains_per_set

    @property
    def n_particles(self) -> int:
        """How many consecutive chains are the particles of one population; 1 if chains are independent."""
        return Origin(self.files[0].attributes).n_particles

    @property
    def populations(self) -> bool:
        """Whether the chains of a set are particles of one population, and their constant of log_w that of all."""
        return Origin(self.files[0].attributes).populations

    @property
    def file_names(self) -> list[str]:
        """The names of the files, or their paths where names are equal."""
        names = [file.path.name for file in self.files]
        return names if len({*names}) == len(names) else [str(file.path) for file in self.files]

    @property
    def n_chains(self) -> int:
        """The number of chains in all files."""
        return sum(file.n_chains for file in self.files)

    @property
    def core_seconds(self) -> float:
        """Production seconds times threads, summed over all files; independent of how chains are split among files."""
        return sum(file.seconds * Origin(file.attributes).threads for file in self.files)

    @property
    def threads(self) -> int:
        """The number of threads in use; if files differ, that of the first."""
        return Origin(self.files[0].attributes).threads

    @property
    def n_configs(self) -> int:
        """The number of configurations per chain that count; if files differ, that of the shortest."""
        return min(self._rows(file, LOG_W).size for file in self.files)

    @property
    def n_configs_of_longest(self) -> int:
        """The number of configurations per chain that count in the longest file."""
        return max(self._rows(file, LOG_W).size for file in self.files)

    @property
    def n_kept(self) -> int:
        """The number of configurations that count, over all chains."""
        return sum(self._rows(file, LOG_W).size * file.n_chains for file in self.files)

    def has(self, name: str) -> bool:
        """Whether the series was measured in every file, equally often; a series of an observable also whether it is
        finite."""
        return self._is_measured(name) and name not in self.not_finite

    def _is_measured(self, name: str) -> bool:
        n_files, everies = self._measured.get(name, (0, {1}))
        return n_files == len(self.files) and len(everies) == 1

    def is_dense(self, name: str) -> bool:
        """Whether the series was measured on every configuration."""
        return self.has(name) and self._measured[name][1] == {1}

    def partly_measured(self) -> list[str]:
        """The observables that were measured only in some of the files, or not equally often."""
        return [one.name for one in self.observables() if not self._is_measured(one.name)]

    @functools.cached_property
    def not_finite(self) -> dict[str, str]:
        """The observables' series that hold values that are infinite or no number, each with the first place of one:
        there are no estimates from them."""
        found = {}
        for name in [one.name for one in self.observables() if self._is_measured(one.name)]:
            for k, file in enumerate(self.files):
                values, rows = self._together(k, name), self._rows(file, name)
                if told := where_not_finite(name, values, rows, file.first_chain):
                    found[name] = told if len(self.files) == 1 else f"{told} of {file.path.name}"
                    break
        return found

    def _together(self, k: int, name: str) -> np.ndarray:
        """The values of the series in file k that count, (n, n_chains), kept for a while where there are few."""
        if self.is_large(name):
            return self._values(k, name)
        first = sum(file.n_chains for file in self.files[:k])
        return np.stack(self.series(name)[first : first + self.files[k].n_chains], axis=1)

    @functools.cached_property
    def _measured(self) -> dict[str, tuple[int, set[int]]]:
        """The number of files that have a series and the intervals at which they have it, by the series' name."""
        found: dict[str, tuple[int, set[int]]] = {}
        for file in self.files:
            for name in file.series_names:
                n_files, everies = found.get(name, (0, set()))
                found[name] = n_files + 1, everies | {file.every(name)}
        return found

    def series(self, name: str) -> list[np.ndarray]:
        """The series of every chain, as replicas of the Gamma method. Do not change them: they are kept for a while."""
        if name in self._kept:
            self._kept[name] = self._kept.pop(name)  # the last one that was asked for
            return self._kept[name]
        self._make_room(self._n_bytes(name))
        chains = self._kept[name] = self._read(name)
        return chains

    def _read(self, name: str) -> list[np.ndarray]:
        """The chains of all files, as views of one block of memory, which is freed as a whole."""
        sizes = [self._rows(file, name).size for file in self.files for _ in range(file.n_chains)]
        stops = np.cumsum(sizes)
        first = self._values(0, name)
        together = np.empty(int(stops[-1]), first.dtype)
        chains = np.split(together, stops[:-1])
        number = 0
        for k in range(len(self.files)):
            for values in (self._values(k, name) if k else first).T:
                chains[number][:] = values
                number += 1
        return chains

    def lazy_series(self, name: str) -> Sequence[np.ndarray]:
        """The same chains as `series`, but those of a large series are read only when they are accessed."""
        if name in self._kept or not self.is_large(name):
            return self.series(name)
        places = [(k, column) for k, file in enumerate(self.files) for column in range(file.n_chains)]
        sizes = [self._rows(self.files[k], name).size for k, _ in places]
        one_by_one = threading.Lock()  # the file that is open changes

        def chain(number: int) -> np.ndarray:
            k, column = places[number]
            with one_by_one:
                return self._values(k, name)[:, column]

        return LazyReplicas(sizes, chain)

    def is_large(self, name: str) -> bool:
        """Whether copies of the series would need much memory."""
        return self._n_bytes(name) > _KEPT_BYTES // 4

    @functools.cached_property
    def _kept(self) -> dict[str, list[np.ndarray]]:
        return {}

    @functools.cached_property
    def _open(self) -> list[Ensemble]:
        return []

    def _only_open(self, file: Ensemble) -> Ensemble:
        """The file, after all others have been closed, as there may be a thousand."""
        for other in self._open:
            if other is not file:
                other.close()
        self._open[:] = [file]
        return file

    def _n_bytes(self, name: str) -> int:
        return 8 * sum(self._rows(file, name).size * file.n_chains for file in self.files)

    def _make_room(self, n_bytes: int) -> None:
        """Drop the series used longest ago until n_bytes more fit."""
        while self._kept and sum(map(self._n_bytes, self._kept)) + n_bytes > _KEPT_BYTES:
            self._kept.pop(next(iter(self._kept)))

    def forget_large_series(self) -> None:
        """Give back the memory of large series, which are read again when they are needed."""
        for name in [name for name in self._kept if self.is_large(name)]:
            del self._kept[name]

    def _values(self, k: int, name: str) -> np.ndarray:
        """The values that count of the series in file k, (n, n_chains)."""
        file = self._only_open(self.files[k])
        values = self._log_w(k) if name == LOG_W and self.log_ratios else file.series(name)
        counted = values[self._counted(_numbers(file, name))]
        if name == LOG_W and self.chains_per_set and not self.populations:
            return normalised_in_sets(counted, self.chains_per_set)
        return counted

    def rows(self, name: str) -> list[np.ndarray]:
        """The numbers of the configurations on which the series was measured, for every chain."""
        return [rows for file in self.files for rows in [self._rows(file, name)] * file.n_chains]

    def series_like(self, name: str, other: str) -> list[np.ndarray]:
        """The series `name`, measured on every configuration, on those where the series `other` was measured too."""
        return self.together(name, other)[0]

    def together(self, *names: str) -> list[list[np.ndarray]]:
        """The chains of each of these series, on the configurations on which all of them were measured."""
        rows = [self.rows(name) for name in names]
        if all(are_same(a, b) for other in rows[1:] for a, b in zip(rows[0], other)):
            return [self.series(name) for name in names]
        common = [functools.reduce(np.intersect1d, one) for one in zip(*rows)]
        return [
            [chain[np.searchsorted(held, wanted)] for chain, held, wanted in zip(self.series(name), own, common)]
            for name, own in zip(names, rows)
        ]

    def _rows(self, file: Ensemble, name: str) -> np.ndarray:
        """The numbers of the configurations that count among those on which the series was measured."""
        numbers = _numbers(file, name)
        counted = self._counted(numbers)
        return numbers if isinstance(counted, slice) else numbers[counted]

    def _counted(self, numbers: np.ndarray) -> np.ndarray | slice:
        """The positions of the configurations that count in this ascending list of numbers."""
        if self.first == 0 and self.every == 1:
            return slice(None)
        return np.flatnonzero((numbers >= self.first) & (numbers % self.every == 0))

    def _log_w(self, k: int) -> np.ndarray:
        """The log weights of file k for the target theory."""
        file = self.files[k]
        return self.log_ratios[k] + (file.series(LOG_W) if Origin(file.attributes).weighted else 0.0)

    def proposals(self, name: str) -> np.ndarray | None:
        """The log weights of all proposals, (m,), or of the populations that they form; None if none are stored."""
        if name not in self.files[0].proposal_names:
            return None
        every = [self._only_open(file).proposals(name) for file in self.files]
        return np.concatenate([population_log_w(values, self.n_particles).ravel() for values in every])

    def independent_log_w(self) -> list[np.ndarray]:
        """log w of every chain, or of the populations that a set of chains forms."""
        chains = self.series(LOG_W)
        if self.n_particles == 1:
            return chains
        sets = [chains[k : k + self.n_particles] for k in range(0, len(chains), self.n_particles)]
        return [population_log_w(np.stack(particles, axis=1), self.n_particles)[:, 0] for particles in sets]

    def observables(self) -> list[Observable]:
        """The observables that were measured in any of the files."""
        texts = dict.fromkeys(str(file.header("observables")) for file in self.files)
        tables = [table for text in texts for table in json.loads(text)]
        action = action_of(self.theory)
        measured = [Measurement.from_dict(table, action).observable for table in tables]
        return list({one.name: one for one in measured}.values())

    @property
    def lattice_shape(self) -> tuple[int, ...]:
        """The extents of the lattice, () without one."""
        return lattice_shape_of(self.theory)

    def quantities(self) -> list[Quantity]:
        """The quantities that can be estimated from the measured series, and the derived ones."""
        return [*(one for one in self._measured_quantities() if not self._is_beyond_weights(one)), *self.derived]

    def beyond_weights(self) -> list[Quantity]:
        """The quantities of measured series of which weights, such as there are, make no averages."""
        return [one for one in self._measured_quantities() if self._is_beyond_weights(one)]

    def _is_beyond_weights(self, quantity: Quantity) -> bool:
        return self.weighted if quantity.of_updates else quantity.of_couplings and bool(self.log_ratios)

    def _measured_quantities(self) -> list[Quantity]:
        every = [one for observable in self.observables() for one in observable.quantities(self.lattice_shape)]
        named = [replace(one, terms=tuple(map(self._as_measured, one.terms))) for one in every]
        return [one for one in named if all(self.has(term.series) for term in one.terms)]

    def _as_measured(self, term: Term) -> Term:
        """The term, with the series of the first part of a mixture that has it: their names end in numbers."""
        if self.has(term.series):
            return term
        found = self.series_of_parts(term.series)
        return term._replace(series=min(found)) if found else term

    def series_of_parts(self, name: str) -> list[str]:
        """The series `name` of samplers inside the ensemble's sampler, at any depth: NAME_1 of its part 1, and NAME_0_1
        of the part 0 of that."""
        of_part = re.compile(rf"{re.escape(name)}(_\d+)+")
        own = {one.name for one in self.observables()}
        return [held for held in self._measured if of_part.fullmatch(held) and held not in own and self.has(held)]


def _numbers(file: Ensemble, name: str) -> np.ndarray:
    """The numbers of the configurations on which the series was measured; log weights exist for all of them."""
    return _multiples(file.n_configs, 1 if name == LOG_W else file.every(name))


@functools.lru_cache(maxsize=16)
def _multiples(n_configs: int, every: int) -> np.ndarray:
    """The multiples of `every` below n_configs, read-only: the files of an ensemble share them."""
    numbers = np.arange(0, n_configs, every)
    numbers.flags.writeable = False
    return numbers


def are_same(rows: np.ndarray, others: np.ndarray) -> bool:
    """Whether both arrays hold the same configuration numbers."""
    return rows is others or np.array_equal(rows, others)
