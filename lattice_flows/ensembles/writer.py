"""The one writer of an ensemble: collects blocks, commits them as segments, joins the segments at the end."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lattice_flows.atomic_files import make_folder, remove_leftovers
from lattice_flows.ensembles.contents import state_arrays
from lattice_flows.ensembles.errors import EnsembleError, StorageError, writing
from lattice_flows.ensembles.file_sequence import Parts, exists, find_parts
from lattice_flows.ensembles.header import Design, checked_header
from lattice_flows.ensembles.join import file_contents, joined_contents
from lattice_flows.ensembles.layout import Block, FieldSpec, segment_numbers, segment_path, segments_folder
from lattice_flows.ensembles.lock import WriterLock
from lattice_flows.ensembles.one_file import read_part
from lattice_flows.ensembles.storage import commit_streaming
from lattice_flows.ensembles.uncommitted import Pending


class EnsembleWriter:
    """The writer of an ensemble, from `Ensemble.create` or `Ensemble.resume`; it holds the lock until `finish`, `close`
    or the end of its `with`.

        with Ensemble.create("ensembles/hmc.h5", header=..., chains=range(4), field=..., store_fields=True) as writer:
            while writer.n_configs < 10_000:
                writer.append(Block(...))
                writer.commit(state, seconds=...)
            writer.finish()

    Every commit makes a file; let the time between two grow with the run (a few seconds, or one per cent of the time
    run so far, whichever is more): even a run of weeks then has about a thousand of them.
    """

    def __init__(self, path: Path, lock: WriterLock, parts: Parts, design: Design) -> None:
        self.path = path
        self.design = design
        self._lock: WriterLock | None = lock
        self._parts = parts
        self._pending = self._nothing_pending()

    @classmethod
    def create(
        cls,
        path: Path,
        header: Mapping[str, Any],
        chains: range,
        field: FieldSpec,
        store_fields: bool,
        compression: str,
    ) -> Self:
        if not (isinstance(chains, range) and chains.step == 1 and chains.start >= 0 and len(chains) > 0):
            raise EnsembleError(f"{path}: chains are {chains!r}; give range(first_chain, first_chain + n_chains)")
        design = Design(checked_header(header), chains, field, store_fields, compression)
        with writing(path):
            make_folder(path.parent)
        lock = WriterLock(path)
        try:
            if exists(path):
                raise EnsembleError(f"{path}: already exists and is not overwritten; resume it, or choose another name")
            clean(path, next_segment=0)
            return cls(path, lock, Parts(), design)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def resume(cls, path: Path) -> Self:
        if not exists(path):
            raise EnsembleError(f"{path}: no such ensemble: there is neither this file nor segments")
        lock = WriterLock(path)
        try:
            parts = find_parts(path)
            first, last = parts.first, parts.last
            last.verify()  # nothing is added to what is damaged
            clean(path, first.next_segment if first.path == path else 0)
            return cls(path, lock, parts, first.design)
        except BaseException:
            lock.release()
            raise

    @property
    def n_configs(self) -> int:
        """Configurations per chain, those that wait for the next commit included."""
        return self._pending.configs.stop

    @property
    def series_names(self) -> list[str]:
        """The series that are stored; none before the first configurations."""
        return self._parts.names("series")

    @property
    def proposal_names(self) -> list[str]:
        """What is stored of every proposal; nothing before the first."""
        return self._parts.names("proposals")

    @property
    def header(self) -> dict[str, str | int | float]:
        return dict(self.design.header)

    @property
    def chains(self) -> range:
        return self.design.chains

    @property
    def n_chains(self) -> int:
        return len(self.chains)

    @property
    def first_chain(self) -> int:
        return self.chains.start

    @property
    def seconds(self) -> float:
        """Production seconds, summed over all commits."""
        return self._parts.seconds

    def state(self) -> dict[str, np.ndarray]:
        """The state at the last commit. Raises EnsembleError if nothing was committed yet."""
        if not self._parts.parts:
            raise EnsembleError(f"{self.path}: nothing was committed yet")
        return self._parts.last.state()

    def append(self, block: Block) -> None:
        """Take a block; it reaches the disk with the next commit. Its arrays are not copied: do not change them before
        that.

        Raises EnsembleError, and takes nothing, if the block does not fit the ensemble.
        """
        self._check_open()
        self._pending.add(block)

    def commit(self, state: Mapping[str, Any], *, seconds: float) -> None:
        """Write all blocks since the last commit, and the state at their end, as one segment: whole or not at all.

        state    name -> array of numbers, or a number; "a/b" makes groups. A commit without blocks stores a state
                 alone, say in the middle of the thermalisation.
        seconds  of production since the last commit: updates and measurements, no compilation, no thermalisation, no
                 writing.

        Raises EnsembleError if the disk is full or the state cannot be stored; the blocks are then kept for another
        attempt. Raises StorageError, with this segment on the disk, if files of before have vanished.
        """
        self._check_open()
        number = self._parts.last.next_segment if self._parts.parts else 0
        target = segment_path(self.path, number)
        if target.exists():
            raise EnsembleError(f"{target}: already exists and is not overwritten; resume the ensemble")
        contents = file_contents(
            self.design,
            tuple(self._pending.tables()),
            self._pending.configs,
            self._pending.proposals,
            number + 1,
            seconds,
            state_arrays(state),
        )
        with writing(target.parent):
            make_folder(target.parent)
        commit_streaming(target, contents.write)
        self._parts.append(read_part(target))
        self._pending = self._nothing_pending()
        self._check_kept()

    def _check_kept(self) -> None:
        """Raise StorageError if files that this ensemble consists of are no longer there."""
        there = {segment_path(self.path, number) for number in segment_numbers(self.path)}
        gone = [part.path for part in self._parts.parts if part.path not in there and not part.path.exists()]
        if gone:
            others = f" and {len(gone) - 1} other files have" if len(gone) > 1 else " has"
            folder = segments_folder(self.path).name
            raise StorageError(
                f"{gone[0]}:{others} vanished while the run was writing; restore it and run again, or move {folder} "
                "away and begin anew; `lattice-flows analyse` and `export` read what is left, with all made since"
            )

    def finish(self) -> None:
        """Verify all segments, join them into NAME.h5, delete them, release the lock. Needs little memory, whatever
        the size.

        Raises EnsembleError if a part is damaged, the disk is full, or blocks wait for a commit; nothing is deleted
        then.
        """
        self._check_open()
        if self._pending.blocks:
            raise EnsembleError(
                f"{self.path}: blocks were appended since the last commit; commit them, with the state at their end"
            )
        if not self._parts.parts:
            raise EnsembleError(f"{self.path}: nothing was committed, so there is nothing to finish")
        if self._parts.last.path != self.path:
            self._parts.verify()  # a join must not lend a fresh checksum to damaged data
            commit_streaming(self.path, joined_contents(self._parts).write)
            clean(self.path, self._parts.last.next_segment)
        self.close()

    def close(self) -> None:
        """Release the lock. What was not committed is lost; what was committed is not touched."""
        self._parts.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._lock is None:
            raise EnsembleError(f"{self.path}: this writer is closed; resume the ensemble")

    def _nothing_pending(self) -> Pending:
        return Pending(self.design, self._parts.n_configs, self._parts.n_proposals, self._parts.schema)


def clean(path: Path, next_segment: int) -> None:
    """Delete leftovers of killed processes: temporary files, and segments below `next_segment`, already joined."""
    folder = segments_folder(path)
    with writing(folder):
        remove_leftovers(path.parent, path.name)
        if not folder.is_dir():
            return
        remove_leftovers(folder, re.compile(r"\d+\.h5"))
        for older in folder.glob("[0-9]*.h5.tmp"):  # of the first version; the folder is ours alone
            older.unlink(missing_ok=True)
        for number in segment_numbers(path):
            if number < next_segment:
                segment_path(path, number).unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
