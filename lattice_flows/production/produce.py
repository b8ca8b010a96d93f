"""One ensemble while it is generated: thermalise, produce, measure, commit."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from lattice_flows.card.budget import Progress, is_at_end, progress, seconds_left
from lattice_flows.card.card import Card, EnsembleTable
from lattice_flows.ensembles import Block, Ensemble, EnsembleWriter
from lattice_flows.errors import InputError
from lattice_flows.kernels.random import make_streams
from lattice_flows.production.origin import Origin
from lattice_flows.samplers import Sampler
from lattice_flows.samplers.info import PROPOSALS
from lattice_flows.samplers.state_arrays import flatten, restore
from lattice_flows.terminal.interrupt import StopRequest
from lattice_flows.terminal.progress import Meter, meter
from lattice_flows.theories.measurement import measured

_BLOCK_BYTES = 16 << 20
_PENDING_BYTES = 64 << 20  # of fields that wait for a commit, which holds them twice


@dataclass(frozen=True)
class Pace:
    """The intervals at which a run measures and commits. The result does not depend on them."""

    block_seconds: float = 0.2  # of work measured as one batch
    commit_seconds: float = 5.0  # of work in one segment, or 1 % of the run so far if that is more


STEADY = Pace()


@dataclass
class Production:
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
    ) -> "Production":
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
        _, total, unit = self._progress()
        with meter(console, self.label, total, unit, "configurations") as progress:
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
        while not is_at_end(self.table, self.writer.n_configs, self._seconds()):
            block = self._block(stop)
            self.writer.append(block)
            progress.update(self._progress().done, self._figure(block), self.writer.n_configs)
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
        # Half of the time that is left: what was made must be measured, too.
        most_seconds = min(self.pace.block_seconds, 0.5 * seconds_left(self.table, self._seconds()))
        room = max(1, _BLOCK_BYTES // self.state.x.nbytes)
        missing = self.table.n_configs - self.writer.n_configs
        step, n_updates = self.sampler.step, self.table.n_updates
        state = self.state
        for _ in range(min(room, missing)):
            state, info = step(state, n_updates)
            x.append(state.x)
            infos.append(info)
            if time.perf_counter() - start > most_seconds or stop():
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

    def _seconds(self) -> float:
        """Of production, whether committed or not."""
        return self.writer.seconds + self.seconds

    def _progress(self) -> Progress:
        return progress(self.table, self.writer.n_configs, self._seconds())

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
