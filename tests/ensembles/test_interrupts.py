"""Ctrl-C while a file is written: HDF5 never sees it, and nothing is left behind."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from lattice_flows.ensembles import storage


def build_and_interrupt(file: h5py.File) -> Iterator[None]:
    """Three pieces; the signal comes where HDF5 writes the second, in whose call of our stream it would be raised."""
    for piece in range(3):
        if piece == 1:
            os.kill(os.getpid(), signal.SIGINT)
        file.create_dataset(f"piece_{piece}", data=np.ones(100_000))
        file.flush()
        yield
        assert piece != 1, "the interrupt waited for longer than a piece"


def test_an_interrupt_comes_between_pieces(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    with pytest.raises(KeyboardInterrupt):
        storage.commit_streaming(path, build_and_interrupt)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_only_notes_it_lets_the_file_be_finished(tmp_path: Path) -> None:
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))

    def build(file: h5py.File) -> Iterator[None]:
        os.kill(os.getpid(), signal.SIGINT)
        file["x"] = 1
        assert noted == []
        yield
        assert noted == [signal.SIGINT]

    try:
        storage.commit_streaming(tmp_path / "e.h5", build)
    finally:
        signal.signal(signal.SIGINT, before)
    with h5py.File(tmp_path / "e.h5") as file:
        assert file["x"][()] == 1
