"""A run folder: card.toml, flow/, ensembles/, report/; also cluster/ if it was submitted."""

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lattice_flows.atomic_files import remove_leftovers, write_atomically
from lattice_flows.card.card import Card, read_card, read_held_card
from lattice_flows.card.changes import refused_changes
from lattice_flows.differences import few
from lattice_flows.ensembles import Ensemble
from lattice_flows.ensembles.layout import segment_numbers
from lattice_flows.errors import InputError, written_to
from lattice_flows.regular_files import read_text, real
from lattice_flows.training import CHECKPOINT_NAME, FORMERLY, CheckpointError, read_checkpoint, recommended_then

_CLAIMING = re.compile(r"card(\.toml)?|overrides(\.json)?")  # whose temporary files a kill may leave
_OF_A_CLAIM = re.compile(r"overrides\.json|.*\.tmp")


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def card(self) -> Path:
        """The run card as it was given."""
        return self.path / "card.toml"

    @property
    def overrides(self) -> Path:
        """The file of the --set options that go with the card; absent if there are none."""
        return self.path / "overrides.json"

    @property
    def flow(self) -> Path:
        """The folder of the checkpoint, history.csv and the final evaluation."""
        return self.path / "flow"

    @property
    def evaluation(self) -> Path:
        """The file of fresh weighted samples of the trained flow."""
        return self.flow / "evaluation.h5"

    @property
    def report(self) -> Path:
        """The folder of summary.json, figures and index.html."""
        return self.path / "report"

    @property
    def is_claimed(self) -> bool:
        """Whether the card is that of a run which began here, rather than a card that somebody keeps in a folder."""
        folders = (self.flow, self.ensembles, self.cluster)  # a report may be of anything
        return self.overrides.exists() or any(path.is_dir() for path in folders)

    @property
    def cluster(self) -> Path:
        """The folder of job scripts, submitted jobs, their logs and outcomes; absent if nothing was submitted."""
        return self.path / "cluster"

    @property
    def ensembles(self) -> Path:
        """The folder of the ensembles' files."""
        return self.path / "ensembles"

    def ensemble(self, name: str) -> Path:
        """The file of an ensemble made by one process."""
        return self.ensembles / f"{name}.h5"

    def task(self, name: str, index: int) -> Path:
        """The file of task `index` of a job array, which holds some of the ensemble's chains."""
        return self.ensembles / f"{name}.{index}.h5"

    def files(self, name: str) -> list[Path]:
        """The existing files of an ensemble, begun or finished: its own file, or else those of its tasks by number."""
        names = self._stems()
        if name in names:
            return [self.ensemble(name)]
        return [self.task(name, index) for index in self._indices(name, names)]

    def is_begun(self, name: str) -> bool:
        """Whether anything was committed to the ensemble's own file, as made by one process."""
        return Ensemble.exists(self.ensemble(name))

    def tasks(self, name: str) -> list[int]:
        """The numbers of the tasks that have begun."""
        return self._indices(name, self._stems())

    @staticmethod
    def _indices(name: str, stems: set[str]) -> list[int]:
        found = (re.fullmatch(rf"{re.escape(name)}\.(0|[1-9]\d*)", stem) for stem in stems)
        return sorted(int(match[1]) for match in found if match)

    def _stems(self) -> set[str]:
        """The names, NAME or NAME.i, of all files with a commit."""
        if not self.ensembles.is_dir():
            return set()
        stems = set()
        with os.scandir(self.ensembles) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                if suffix == ".h5" or (suffix == ".segments" and segment_numbers(Path(entry.path))):
                    stems.add(stem)
        return stems


def asked_for(source: Path, out: Path | None, overrides: Sequence[str]) -> tuple[RunFolder, Card]:
    """The run of a card, in its output folder, or the run in a folder. Nothing is written; for that see `claim`.

    The run in a folder of the same card is continued, and may have become larger, see `changes.refused_changes`.
    Raises InputError if the folder holds anything else: nothing existing is overwritten.
    """
    folder, card = _read(source, out, overrides)
    _check_claim(folder, card)
    return folder, card


def _read(source: Path, out: Path | None, overrides: Sequence[str]) -> tuple[RunFolder, Card]:
    if source.is_dir():
        if out is not None:
            raise InputError(f"{source}: is a run folder, whose location is fixed; give --out only with a card")
        folder = RunFolder(source)
        if not folder.card.exists():
            raise InputError(f"{source}: holds no run (no card.toml); give a run card or the folder of a run")
        _require_claimed(folder)
        return folder, as_trained(folder, read_held_card(folder.card, _latest([*_read_overrides(folder), *overrides])))
    folder = RunFolder(out or default_folder(source))
    read = read_held_card if folder.card.exists() else read_card
    return folder, as_trained(folder, read(source, overrides))


def as_trained(folder: RunFolder, card: Card) -> Card:
    """The card with the training that it meant when that of the folder was begun, where it does not say."""
    checkpoint = folder.flow / CHECKPOINT_NAME
    if card.flow is None or card.flow.name not in FORMERLY or not checkpoint.exists():
        return card
    with suppress(CheckpointError):  # told where the flow is needed
        former = recommended_then(card.flow.name, card.training_given, read_checkpoint(checkpoint).settings)
        return replace(card, training=replace(card.training, **former))
    return card


def find_run(source: Path, out: Path | None) -> tuple[RunFolder, Card]:
    """The run in a folder, or in a card's output folder. Writes nothing.

    Raises InputError if there is none.
    """
    if not source.exists():
        raise InputError(f"{source}: no such card or folder")
    if not source.is_dir() and source.suffix != ".toml":
        raise InputError(f"{source}: is neither a run card (TOML) nor the folder of a run")
    folder = RunFolder(source if source.is_dir() else out or default_folder(source))
    if not folder.card.exists():
        raise InputError(f"{folder.path}: holds no run (no card.toml); run the card first, or give the folder of a run")
    _require_claimed(folder)
    return folder, as_trained(folder, read_held_card(folder.card, _read_overrides(folder)))


def _require_claimed(folder: RunFolder) -> None:
    """Raise InputError for a folder with a card that nothing was made of."""
    if not folder.is_claimed:
        raise InputError(
            f"{folder.path}: holds a card and no run; run {folder.card}, whose output goes to "
            f"{default_folder(folder.card)} unless --out names another folder"
        )


def require_outside_of_runs(target: Path) -> None:
    """Raise InputError for a place in a run's folder: what is there is of the run as a whole, and made by it."""
    place = Path(os.path.abspath(real(target)))
    for folder in (place, *place.parents):
        run = RunFolder(folder)
        if run.card.is_file() and run.is_claimed:
            raise InputError(f"{target}: is in the folder of the run {folder}, whose files are its own; choose another")


def default_folder(card: Path) -> Path:
    """The path output/NAME in the current folder, NAME from the card (or from its folder, for a card.toml)."""
    return Path("output") / (real(card).parent.name if card.stem == "card" else card.stem)


def _read_overrides(folder: RunFolder) -> list[str]:
    if not folder.overrides.exists():
        return []
    try:
        overrides = json.loads(read_text(folder.overrides))
    except (OSError, ValueError, RecursionError):
        overrides = None
    if not (isinstance(overrides, list) and all(isinstance(override, str) for override in overrides)):
        raise InputError(f"{folder.overrides}: is damaged; it should be a JSON list of table.key=value")
    return overrides


def _latest(overrides: Sequence[str]) -> list[str]:
    """The overrides without those replaced by a later one."""
    return list({override.partition("=")[0].strip(): override for override in overrides}.values())


def claim(folder: RunFolder, card: Card) -> Card:
    """Claim the folder for the card's run, unless it already holds it; returns the card.

    Raises InputError if the folder holds anything else, or cannot be written.
    """
    is_held = _check_claim(folder, card)
    with written_to(folder.path):
        folder.ensembles.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder.path, _CLAIMING)
        if is_held:
            return card
        if card.overrides:
            write_atomically(folder.overrides, json.dumps(card.overrides).encode())
        else:
            folder.overrides.unlink(missing_ok=True)
        write_atomically(folder.card, card.text.encode())
    return card


def _check_claim(folder: RunFolder, card: Card) -> bool:
    """Whether the folder already holds this very run. Raises InputError if it cannot become the run's folder."""
    if folder.path.exists() and not folder.path.is_dir():
        raise InputError(f"{folder.path}: is a file; --out must name a folder")
    if folder.card.exists():
        held = as_trained(folder, read_held_card(folder.card, _read_overrides(folder)))
        if told := refused_changes(card, held):
            raise InputError(
                f"{folder.path}: holds the run of another card: {few(told)}; "
                "give these as they were, or choose another --out"
            )
        return held == card
    if folder.path.exists() and not all(_is_of_a_claim(entry) for entry in folder.path.iterdir()):
        if folder.card.exists():  # another task of a job array has claimed it just now
            return _check_claim(folder, card)
        raise InputError(f"{folder.path}: is not empty and holds no run; choose another --out")
    return False


def _is_of_a_claim(entry: Path) -> bool:
    """Whether a claim that was cut short leaves this: there is no card yet, and nothing was made."""
    if entry.name == "ensembles" and entry.is_dir():
        return not any(entry.iterdir())
    return _OF_A_CLAIM.fullmatch(entry.name) is not None
