"""The live state of a run in the terminal, from its files alone: nothing is written, no lock is taken."""

import os
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.live import Live

from lattice_flows.card.budget import is_complete, progress
from lattice_flows.card.card import Card, EnsembleTable
from lattice_flows.ensembles import Ensemble, EnsembleError
from lattice_flows.errors import InputError
from lattice_flows.estimates.weights import unit_of, weights_summary
from lattice_flows.monitor.array_row import COMMITS, WatchedArray, last_commit
from lattice_flows.monitor.lock_holder import Writer, writer_note, writer_of
from lattice_flows.monitor.screen import Row, count, duration, page
from lattice_flows.production.origin import Origin
from lattice_flows.production.run_folder import RunFolder, find_run
from lattice_flows.statistics import population_log_w
from lattice_flows.terminal import numbers
from lattice_flows.terminal.numbers import number
from lattice_flows.training.checkpoint import CheckpointError
from lattice_flows.training.history import Record, is_trusted, read_history

_TAIL = 100_000  # values of a series that are read, of all chains together: the last ones
_CHARGE = "topological_charge"


def watch(folder: Path, console: Console, interval: float, once: bool) -> None:
    """Show the run in `folder` every `interval` seconds, until it is finished or interrupted by ctrl-C.

    Prints one table with `once`, or if the console is not a terminal. Raises InputError if there is no run.
    """
    if not 0 < interval < float("inf"):
        raise InputError(f"--interval {interval}: must be a positive number of seconds")
    run, card = find_run(folder, None)
    watched: list[_WatchedTraining | _WatchedEither] = [] if card.flow is None else [_WatchedTraining(run, card)]
    watched += [_WatchedEither(run, table, _drawn(card)) for table in card.ensembles]
    couplings = [f"{key} = {value}" for key, value in card.theory.couplings.items()]
    lattice = " ".join([card.theory.name, " x ".join(map(str, card.theory.shape))]).rstrip()
    title = f"{run.path}: {', '.join([lattice, *couplings])}"
    if once or not console.is_terminal:
        console.print(page(title, [entry.row() for entry in watched], console))
        return
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            rows = [entry.row() for entry in watched]
            live.update(page(title, rows, console), refresh=True)
            if all(row.state == "finished" for row in rows):
                return
            time.sleep(interval)


class _WatchedEither:
    """One ensemble of the card, made by one process or by a job array."""

    def __init__(self, run: RunFolder, table: EnsembleTable, drawn: Mapping[str, str]) -> None:
        self.run, self.name = run, table.name
        self._one, self._array = _WatchedEnsemble(run.ensemble(table.name), table, drawn), WatchedArray(run, table)

    def row(self) -> Row:
        """The present state of the ensemble."""
        is_array = not self.run.is_begun(self.name) and self.run.tasks(self.name)
        return self._array.row() if is_array else self._one.row()


@dataclass(frozen=True)
class _Held:
    """The progress and latest values of an ensemble, from its files."""

    n_configs: int = 0
    n_thermalised: int = 0
    finished: bool = False
    seconds: float = 0.0  # of production
    rate: float | None = None  # configurations per second of the whole production
    figures: tuple[str, str] = ("", "")
    history: np.ndarray = field(default_factory=lambda: np.empty(0))
    last: str = ""
    error: str = ""


class _WatchedEnsemble:
    """One ensemble of the card. Its files are read only after a new commit, and only the ends of its series."""

    def __init__(self, path: Path, table: EnsembleTable, drawn: Mapping[str, str]) -> None:
        self.path, self.table, self.drawn = path, table, drawn
        self._ensemble: Ensemble | None = None
        self._held = _Held()
        self._commit: tuple[Path, float] | None = None
        self._seen: deque[tuple[float, int]] = deque(maxlen=COMMITS)  # time and n_configs of commits

    def row(self) -> Row:
        """The present state of the ensemble."""
        writer = writer_of(self.path.with_suffix(".lock"))  # before the files: what ends in between is then finished
        self._look()
        held, table = self._held, self.table
        thermalising = self._commit is not None and not held.n_configs and held.n_thermalised < table.n_thermalisation
        whole = progress(table, held.n_configs, held.seconds)
        done, total = (held.n_thermalised, table.n_thermalisation) if thermalising else whole[:2]
        timed = table.max_seconds is not None and not thermalising
        state = self._state(writer, "thermalising" if thermalising else "running")
        rate = self._rate()
        reach = _largest(np.abs(held.history))  # zero stands in the middle
        return Row(
            name=table.name,
            kind=table.sampler,
            state=state,
            fraction=min(1.0, done / total) if total else 0.0,
            progress=f"{count(done)}/{count(total)}{' s' if timed else ''}",
            age=None if self._commit is None else time.time() - self._commit[1],
            rate=rate,
            seconds_left=_left(total - done, 1.0 if timed else rate) if state == "running" else None,
            figures=held.figures,
            history=held.history,
            low=-reach,
            high=reach,
            last=held.last,
            note=held.error or writer_note(writer),
        )

    def _state(self, writer: Writer | None, active: str) -> str:
        if self._held.error:
            return "broken"
        if is_complete(self._held, self.table):
            return "finished"
        if writer is not None and not writer.gone:
            return active if self._commit else "starting"
        return "interrupted" if self._commit or writer else "waiting"

    def _look(self) -> None:
        """Read what was committed since the last look. A broken file is tried again, as it may have been repaired."""
        commit = last_commit(self.path)
        if commit is None or (commit == self._commit and not self._held.error):
            return
        try:
            if self._ensemble is None:
                self._ensemble = Ensemble.open(self.path)
            else:
                self._ensemble.refresh()
            with self._ensemble:  # closes its file, which a finished run deletes; what is known of it stays
                self._held = _held(self._ensemble, self.drawn)
        except EnsembleError as error:
            if last_commit(self.path) != commit:  # joined while it was read: the next look sees it whole
                return
            self._held = replace(self._held, error=_below(error, self.path.parent.parent))
        if commit != self._commit:
            self._seen.append((commit[1], self._held.n_configs))
        self._commit = commit

    def _rate(self) -> float | None:
        """Configurations per second between the commits seen if there are two or more, else since the beginning."""
        if len(self._seen) > 1:
            (first, n_first), (last, n_last) = self._seen[0], self._seen[-1]
            if last > first and n_last > n_first > 0 and not self._held.finished:
                return (n_last - n_first) / (last - first)
        return self._held.rate


def _drawn(card: Card) -> dict[str, str]:
    """Symbols of the series of which the first that an ensemble has is drawn, by name: the charge before others."""
    measured = [one.observable for one in card.measurements if one.observable.drawn or one.observable.name == _CHARGE]
    first = sorted(measured, key=lambda one: one.name != _CHARGE)
    return {one.name: one.quantities(card.theory.shape)[0].short.plain for one in first}


def _held(ensemble: Ensemble, drawn: Mapping[str, str]) -> _Held:
    n_thermalised = 0 if ensemble.n_configs else int(ensemble.state().get("n_thermalised", 0))
    name = next((name for name in drawn if name in ensemble.series_names), None)
    values = np.empty((0, 1)) if name is None else ensemble.series(name, _rows(ensemble))
    return _Held(
        n_configs=ensemble.n_configs,
        n_thermalised=n_thermalised,
        finished=ensemble.finished,
        seconds=ensemble.seconds,
        rate=ensemble.n_configs / ensemble.seconds if ensemble.seconds > 0 else None,
        figures=_figures(ensemble),
        history=np.rint(values[:, 0]) if name == _CHARGE else values[:, 0],
        last=f"{drawn[name]} {_last_values(name, values[-1])}" if name and len(values) else "",
    )


class _WatchedTraining:
    """The training of the card's flow, from its history; the checkpoint itself is not read."""

    def __init__(self, run: RunFolder, card: Card) -> None:
        assert card.flow is not None
        self.run, self.settings, self.kind = run, card.training, card.flow.name
        self._records: list[Record] = []
        self._read_at, self._error, self._final = 0.0, "", ""

    def row(self) -> Row:
        """Its state now."""
        writer = writer_of(self.run.flow / "training.lock")
        self._look()
        state = self._state(writer)
        ess = self._final_ess() if state == "finished" else ""
        done = 1.0 if state in ("finished", "evaluating") else 0.0
        row = Row("training", self.kind, state, done, "", figures=("", ess), note=self._error or writer_note(writer))
        if not self._records:
            return row
        last, history = self._records[-1], np.array([record.ess for record in self._records])
        limits = [(last.step, self.settings.max_steps, ""), (last.seconds, self.settings.max_seconds, " s")]
        done, total, unit = max(((x, of, u) for x, of, u in limits if of), key=lambda entry: entry[0] / entry[1])
        rate = last.step / last.seconds if last.seconds > 0 else None
        fraction = self.settings.progress(last.step, last.seconds)
        steps = "" if last.step_error is None else f", log w good to {number(last.step_error, 1)}"
        return row._replace(
            fraction=max(row.fraction, fraction),
            progress=f"{count(done)}/{count(total)}{unit}",
            age=time.time() - self._read_at,
            rate=rate,
            seconds_left=last.seconds * (1 / fraction - 1) if fraction > 0 and state != "finished" else None,
            figures=(
                f"loss {number(last.loss, 4)}",
                ess or marked_ess(numbers.ess(last.ess, last.ess_error, last.n_samples or 0), is_trusted(last)),
            ),
            history=history,
            high=_largest(history),
            last=f"ESS; step {last.step}, {duration(last.seconds)}{steps}",
        )

    def _state(self, writer: Writer | None) -> str:
        if self._error:
            return "broken"
        if self.run.evaluation.exists():
            return "finished"
        if Ensemble.exists(self.run.evaluation):
            return "evaluating"
        if writer is None:
            return "interrupted" if self._records else "waiting"
        return "interrupted" if writer.gone else "running"

    def _final_ess(self) -> str:
        """The ESS of the fresh samples drawn after the training."""
        if not self._final:
            with suppress(EnsembleError), Ensemble.open(self.run.evaluation) as samples:
                self._final = _figures(samples)[1]
        return self._final

    def _look(self) -> None:
        path = self.run.flow / "history.csv"
        with suppress(FileNotFoundError):  # not begun, or being replaced
            if (changed := path.stat().st_mtime) != self._read_at:
                try:
                    self._records, self._error = read_history(path), ""
                except CheckpointError as error:
                    self._error = _below(error, self.run.path)
                self._read_at = changed


def _left(amount: float, rate: float | None) -> float | None:
    """The seconds that this amount takes at this rate."""
    return max(0.0, amount) / rate if rate else None


def _below(error: Exception, folder: Path) -> str:
    """The message, with paths relative to the run's folder."""
    return str(error).replace(f"{folder}{os.sep}", "")


def _rows(ensemble: Ensemble) -> int:
    """The number of rows of (n, B) that hold _TAIL values."""
    return max(1, _TAIL // ensemble.n_chains)


def _figures(ensemble: Ensemble) -> tuple[str, str]:
    """The recent acceptance rate and ESS of the proposals, each empty if the ensemble has none."""
    acceptance = ess = ""
    if "accepted" in ensemble.series_names and len(accepted := ensemble.series("accepted", _rows(ensemble))):
        acceptance = f"accepted {accepted.mean():.3f}"
    if "log_w" in ensemble.proposal_names:
        n_particles = Origin(ensemble.attributes).n_particles
        log_w = population_log_w(ensemble.proposals("log_w", _rows(ensemble)), n_particles).ravel()
        with suppress(ValueError):  # fewer than two, or none of any weight
            figures = weights_summary(log_w, unit_of(n_particles, ""))
            shown = numbers.ess(figures["ess"], figures["ess_error"], figures["n_samples"], figures["ess_reliable"])
            ess = marked_ess(shown, figures["log_z_reliable"] and not figures["dominated"])
    return acceptance, ess


def marked_ess(ess: str, trusted: bool) -> str:
    """The ESS of a flow as text, with a mark where it is not to be trusted."""
    return f"ESS {ess}{'' if trusted or ess == '-' else ' !'}"


def _last_values(name: str, values: np.ndarray) -> str:
    """The last values of the first few chains."""
    return " ".join(f"{round(x):+d}" if name == _CHARGE else f"{x:+.3f}" for x in values[:8])


def _largest(values: np.ndarray) -> float:
    return float(values.max(where=np.isfinite(values), initial=0.0))
