"""Generate the ensembles of a card: start or resume, thermalise, produce, measure, store."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lattice_flows.card.build import field_spec
from lattice_flows.card.card import Card, EnsembleTable
from lattice_flows.card.memory import require_memory_for_chains
from lattice_flows.card.samplers import build_sampler
from lattice_flows.catalogue import foreign_place
from lattice_flows.ensembles import Block, Ensemble, EnsembleError, EnsembleWriter, LockedError
from lattice_flows.errors import InputError
from lattice_flows.flows import Flow
from lattice_flows.kernels.random import make_streams
from lattice_flows.production.beginning import check_first_step, check_parts
from lattice_flows.production.begun import check_held, flow_for, is_finished, places, resumed, table_of, to_measure
from lattice_flows.production.devices import resolve_device, use_threads
from lattice_flows.production.header import header_of, identity_of, left_out, of_two_programs, threads_for
from lattice_flows.production.job_array import Task, chains_for
from lattice_flows.production.measure import measure
from lattice_flows.production.origin import Origin
from lattice_flows.production.pilot_chains import tuned
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.production.start import check_start_file, start_configurations
from lattice_flows.regular_files import at_home, real
from lattice_flows.samplers import Sampler
from lattice_flows.samplers.info import PROPOSALS
from lattice_flows.samplers.state_arrays import flatten, restore
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.terminal.progress import Meter, meter
from lattice_flows.theories.measurement import measured
from lattice_flows.training import CHECKPOINT_NAME

_BLOCK_BYTES = 16 << 20
_PENDING_BYTES = 64 << 20  # of fields that wait for a commit, which holds them twice


@dataclass(frozen=True)
class Pace:
    """The intervals at which a run measures and commits. The result does not depend on them."""

    block_seconds: float = 0.2  # of work measured as one batch
    commit_seconds: float = 5.0  # of work in one segment, or 1 % of the run so far if that is more


STEADY = Pace()


def generate(
    folder: RunFolder,
    card: Card,
    name: str,
    stop: StopRequest,
    console: Console,
    task: Task | None = None,
    pace: Pace = STEADY,
) -> None:
    """Generate one ensemble of the card, or the chains of one of its tasks, up to n_configs; finished ones are kept.

    For samplers without a network, the chains of the tasks equal those of the whole ensemble, bit for bit, for any
    number of tasks. With a network they are different chains, equally independent of each other.

    Raises InputError if the required flow is not trained, if the ensemble cannot be split into so many tasks, or if
    it was begun the other way or with another number of tasks; Stopped on a signal with everything saved.
    """
    table = table_of(folder, card, name)
    for path, part in places(folder, card, name, task):
        generate_at(path, card, table, folder.flow / CHECKPOINT_NAME, stop, console, part, pace)


def check(
    folder: RunFolder, card: Card, name: str, task: Task | None = None, before: Sequence[str] = (), trains: bool = False
) -> None:
    """Raise InputError as `generate` would, and make one chain to see that it can begin. Changes nothing.

    before: the ensembles that the same call makes before this one, of which it may be a continuation.
    trains: the same call trains the flow first, so there may be none yet.
    """
    table, checkpoint = table_of(folder, card, name), folder.flow / CHECKPOINT_NAME
    begun = [(path, part) for path, part in places(folder, card, name, task) if Ensemble.exists(path)]
    for path, part in begun:
        _check_begun(path, card, table, checkpoint, part)
    if begun:
        return
    require_memory_for_chains(card, table, len(chains_for(table, task)))
    with _told(table):
        _check_start(folder, card, table, before)
    if table.needs_flow and trains:
        resolve_device(card.device)
        return
    flow, _ = flow_for(card, table, checkpoint)
    sampler = build_sampler(table.sampler, table.options, card.theory.action, flow, table.name)
    with _told(table):
        _check_beginning(card, table, sampler)
        if sampler.tuned and not table.needs_flow:  # the others are looked at when they are begun
            check_first_step(card, table, sampler)


def _check_begun(path: Path, card: Card, table: EnsembleTable, checkpoint: Path, task: Task | None) -> None:
    """Raise InputError if the file cannot be brought to the card's configurations and observables."""
    with Ensemble.open(path) as ensemble:
        check_held(path, ensemble, card, table, checkpoint, task)
        to_measure(path, ensemble, card)
        attributes, finished = ensemble.attributes, is_finished(ensemble, table)
    if not finished:
        require_memory_for_chains(card, table, len(chains_for(table, task)))
        resumed(path, attributes, card, table, checkpoint, task)


def _check_start(folder: RunFolder, card: Card, table: EnsembleTable, before: Sequence[str]) -> None:
    """Raise InputError if there is no file to start from, and none will be made before."""
    told = f"start = {table.start!r}"
    own = {real(folder.ensemble(other.name)): other for other in card.ensembles}
    source = own.get(real(at_home(table.start)))
    if source is None or (source.name not in before and folder.is_begun(source.name)):
        check_start_file(card.theory, table.start)
    elif source.name not in before:
        raise InputError(f"{told}: the ensemble {source.name!r} is not made before this one")
    elif not source.store_fields:
        raise InputError(f"{told}: the ensemble {source.name!r} stores no fields; make it with store_fields = true")


def _check_beginning(card: Card, table: EnsembleTable, sampler: Sampler) -> None:
    """Raise ValueError for what the sampler cannot do on this lattice: it says so when a chain begins.

    And for code of somebody else that is not what a run needs.
    """
    check_parts(card, table, sampler)
    event = card.theory.action.event_shape(card.theory.shape)
    sampler.init(
        card.theory.action.space.cold(event)[None], make_streams(card.seed, f"check of {table.name}", range(1))
    )


@contextmanager
def _told(table: EnsembleTable) -> Iterator[None]:
    """Let errors that are the user's to mend name the ensemble."""
    try:
        yield
    except EnsembleError:
        raise
    except ValueError as error:
        place = foreign_place(error.__traceback__)
        told = " ".join(str(error).splitlines()) + (f" ({place})" if place else "")
        raise InputError(f"[[ensemble]] {table.name}: {told}") from None


def generate_at(
    path: Path,
    card: Card,
    table: EnsembleTable,
    checkpoint: Path,
    stop: StopRequest,
    console: Console,
    task: Task | None = None,
    pace: Pace = STEADY,
) -> None:
    """Generate the ensemble of this table, or the chains of one of its tasks, up to n_configs in the file `path`."""
    if Ensemble.exists(path):
        _go_on(path, card, table, checkpoint, stop, console, task, pace)
        return
    chains = chains_for(table, task)
    use_threads(threads_for(table, chains))
    flow, checksum = flow_for(card, table, checkpoint)
    sampler = build_sampler(table.sampler, table.options, card.theory.action, flow, table.name)
    with _told(table):
        check_parts(card, table, sampler)
        sampler = tuned(card, table, identity_of(card, table), sampler, flow, stop, console)
        check_first_step(card, table, sampler)
        state = _begun(card, table, sampler, flow, chains)
    header = header_of(card, table, sampler, checksum, task)
    with Ensemble.create(
        path,
        header=header,
        chains=chains,
        field=field_spec(card.theory, table.field_dtype),
        store_fields=table.store_fields,
        compression=table.compression,
    ) as writer:
        _Production(card, table, sampler, writer, pace, state, 0).run(stop, console)


def _go_on(
    path: Path,
    card: Card,
    table: EnsembleTable,
    checkpoint: Path,
    stop: StopRequest,
    console: Console,
    task: Task | None,
    pace: Pace,
) -> None:
    """Measure what the file lacks, and generate what is missing."""
    with Ensemble.open(path) as ensemble:
        check_held(path, ensemble, card, table, checkpoint, task)
        new, finished = to_measure(path, ensemble, card), is_finished(ensemble, table)
    if new:
        measure(path, new, stop, console)
    if finished:
        _tidy(path)
        return
    with Ensemble.open(path) as ensemble:
        attributes = ensemble.attributes
    as_held, sampler, threads = resumed(path, attributes, card, table, checkpoint, task)
    for text in filter(None, [left_out(card, as_held), *of_two_programs(card, table, attributes)]):
        console.print(f"[bold]{table.name}[/bold]  {text}", highlight=False, soft_wrap=True)
    use_threads(threads)
    with Ensemble.resume(path) as writer:
        _Production.resume(as_held, table, sampler, writer, pace).run(stop, console)


def _tidy(path: Path) -> None:
    """Delete the segments that a kill at the end of a join has left beside the finished file, which contains them."""
    if path.with_suffix(".segments").exists() or path.with_suffix(".lock").exists():
        with suppress(LockedError):  # somebody is at work on it, and will
            Ensemble.resume(path).close()


@dataclass
class _Production:
    """One ensemble while it is generated."""

    card: Card
    table: EnsembleTable
    sampler: Sampler
    writer: EnsembleWriter
    pace: Pace
    state: Any
    n_thermalised: int
    seconds: float = 0.0  # of production since the last commit
    accepted: float = 0.0  # sum over the configurations since the start or resume
    n_tested: int = 0
    info_fields: tuple[str, ...] | None = None  # of the first step
    held: frozenset[str] | None = None  # the columns of the file that is resumed; None where it has no configurations

    @property
    def label(self) -> str:
        """The ensemble's name, followed by the task's if it is one of several."""
        task = Origin(self.writer.header).task
        return f"{self.table.name} {task}" if task else self.table.name

    @classmethod
    def resume(
        cls, card: Card, table: EnsembleTable, sampler: Sampler, writer: EnsembleWriter, pace: Pace
    ) -> "_Production":
        arrays = writer.state()
        template = sampler.init(arrays["sampler/x"], make_streams(card.seed, table.name, writer.chains))
        state = restore(template, arrays, "sampler/")
        proposals = [PROPOSALS] if writer.proposal_names else []
        held = frozenset([*writer.series_names, *proposals]) if writer.n_configs else None
        return cls(card, table, sampler, writer, pace, state, int(arrays["n_thermalised"]), held=held)

    def run(self, stop: StopRequest, console: Console) -> None:
        """Do the missing thermalisation and production, and finally join the file."""
        self._warm_up()
        with meter(console, self.label, self.table.n_thermalisation, "thermalisation steps") as progress:
            self._thermalise(stop, progress)
        with meter(console, self.label, self.table.n_configs, "configurations") as progress:
            self._produce(stop, progress)
            self.writer.finish()
            with Ensemble.open(self.writer.path) as done:
                size = f"{done.n_configs} configurations x {done.n_chains} chains"
                progress.line(f"{size} in {done.seconds:.2f} s{self._rate()}")

    def _warm_up(self) -> None:
        """Compile and load everything before the clock starts; a step is pure, so its result can be dropped."""
        state, info = self.sampler.step(self.state)
        self._measured([state.x], [info])

    def _thermalise(self, stop: StopRequest, progress: Meter) -> None:
        last = time.monotonic()
        while self.n_thermalised < self.table.n_thermalisation:
            self.state = self.sampler.thermalise(self.state, self.n_thermalised / self.table.n_thermalisation)
            self.n_thermalised += 1
            progress.update(self.n_thermalised, "")
            if stop() or time.monotonic() - last > self._commit_interval():
                self._commit()
                last = time.monotonic()
            stop.raise_if_set()

    def _produce(self, stop: StopRequest, progress: Meter) -> None:
        last, pending = time.monotonic(), 0
        while self.writer.n_configs < self.table.n_configs:
            block = self._block(stop)
            self.writer.append(block)
            progress.update(self.writer.n_configs, self._figure(block))
            pending += 0 if block.fields is None else block.fields.nbytes
            if stop() or time.monotonic() - last > self._commit_interval() or pending > _PENDING_BYTES:
                self._commit()
                last, pending = time.monotonic(), 0
            stop.raise_if_set()
        if self.seconds > 0:
            self._commit()

    def _block(self, stop: StopRequest) -> Block:
        """Configurations of a fraction of a second (or as many as fit into memory), measured as one batch."""
        start = time.perf_counter()
        x, infos = [], []
        room = max(1, _BLOCK_BYTES // self.state.x.nbytes)
        missing = self.table.n_configs - self.writer.n_configs
        step, n_updates = self.sampler.step, self.table.n_updates
        state = self.state
        for _ in range(min(room, missing)):
            state, info = step(state, n_updates)
            x.append(state.x)
            infos.append(info)
            if time.perf_counter() - start > self.pace.block_seconds or stop():
                break
        self.state = state
        block = self._measured(x, infos)
        self.seconds += time.perf_counter() - start
        return block

    def _measured(self, x: list[np.ndarray], infos: list[Any]) -> Block:
        fields = np.stack(x)  # (n, B, *event)
        columns = self._columns(infos)
        proposals = columns.pop(PROPOSALS, None)  # (n, n_updates, B)
        flat = fields.reshape(-1, *fields.shape[2:])  # (n * B, *event)
        series = {"action": self.card.theory.action.evaluate(flat).reshape(fields.shape[:2])}
        more, every = measured(self.card.measurements, fields, self.writer.n_configs)
        return Block(
            series={**series, **more, **columns},
            every=every,
            fields=self._stored(fields) if self.table.store_fields else None,
            proposals={} if proposals is None else {"log_w": proposals.reshape(-1, fields.shape[1])},
        )

    def _columns(self, infos: list[Any]) -> dict[str, np.ndarray]:
        """The fields of the infos by name, with an axis in front for the steps. Raises InputError if they vary.

        A file of an older version goes on without those that it does not have.
        """
        if self.info_fields is None:
            self.info_fields = getattr(infos[0], "_fields", ())
        for info in infos:
            if (found := getattr(info, "_fields", ())) != self.info_fields:
                raise InputError(
                    f"[[ensemble]] {self.table.name}: the info of {self.table.sampler!r} had the fields "
                    f"{', '.join(self.info_fields)} in one step and {', '.join(found)} in another; they must be the "
                    "same in all"
                )
        columns = dict(zip(self.info_fields, zip(*infos)))
        kept = [name for name in columns if self.held is None or name in self.held]
        return {name: np.stack(columns[name]) for name in kept}

    def _stored(self, fields: np.ndarray) -> np.ndarray:
        """The fields in the dtype of the file. Measurements and the state for a resume always use full precision."""
        return self.card.theory.action.space.stored(fields, self.table.field_dtype)

    def _commit_interval(self) -> float:
        return max(self.pace.commit_seconds, 0.01 * self.writer.seconds)

    def _commit(self) -> None:
        state = {**flatten(self.state, "sampler/"), "n_thermalised": np.int64(self.n_thermalised)}
        self.writer.commit(state, seconds=self.seconds)
        self.seconds = 0.0

    def _figure(self, block: Block) -> str:
        """Acceptance and charge as text, as far as the sampler and the theory have them."""
        parts = []
        if "accepted" in block.series:
            self.accepted += float(block.series["accepted"].sum())
            self.n_tested += block.series["accepted"].size
            parts.append(f"acceptance {self.accepted / self.n_tested:.3f}")
        if "topological_charge" in block.series and len(block.series["topological_charge"]):
            charges = " ".join(f"{round(q):+d}" for q in block.series["topological_charge"][-1][:8])
            parts.append(f"Q {charges}")
        return ", ".join(parts)

    def _rate(self) -> str:
        return f", acceptance {self.accepted / self.n_tested:.3f}" if self.n_tested else ""


def _begun(card: Card, table: EnsembleTable, sampler: Sampler, flow: Flow | None, chains: range) -> Any:
    """The initial state of these chains of the ensemble."""
    streams = make_streams(card.seed, identity_of(card, table), chains)
    x, streams = start_configurations(card.theory, table.start, streams, flow, chains.start)
    return sampler.init(x, streams)
