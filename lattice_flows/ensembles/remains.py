"""What is left of an ensemble some of whose files are missing, as after the purge of a scratch disk."""

from collections.abc import Iterable
from pathlib import Path

from lattice_flows.ensembles.file_sequence import Parts
from lattice_flows.ensembles.layout import segment_numbers, segment_path
from lattice_flows.ensembles.one_file import Part, read_part


def find_remains(path: Path) -> tuple[Parts, str]:
    """The piece of NAME.h5 without a gap that holds most configurations, and in words what is not in it.

    Raises EnsembleError if a file is broken, FileNotFoundError if one vanishes while this reads.
    """
    joined = [read_part(path)] if path.exists() else []
    start = joined[0].next_segment if joined else 0
    segments = (read_part(segment_path(path, number)) for number in segment_numbers(path) if number >= start)
    pieces = _pieces([*joined, *segments])
    largest = max(pieces, key=lambda piece: piece[-1].configs.stop - piece[0].configs.start)
    found = Parts(largest[0])
    for part in largest:
        found.append(part)
    return found, _loss(found, pieces[-1][-1].configs.stop)


def _pieces(parts: Iterable[Part]) -> list[list[Part]]:
    """The parts, cut where some are missing."""
    pieces: list[list[Part]] = []
    for part in parts:
        last = pieces[-1][-1] if pieces else None
        if last and (last.configs.stop, last.proposals.stop) == (part.configs.start, part.proposals.start):
            pieces[-1].append(part)
        else:
            pieces.append([part])
    return pieces


def _loss(found: Parts, total: int) -> str:
    first, last = found.first_config, found.first_config + found.n_configs
    if (first, last) == (0, total):
        return "files are missing, none that held configurations"
    kept = f"only {first} to {last - 1} are read, counted from 0"
    return f"files are missing: of the configurations 0 to {total - 1} {kept}"
