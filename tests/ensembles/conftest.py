"""Files reach the page cache only: a SIGKILL does not empty it, and an fsync takes longer than the rest of a test."""

import faulthandler
import os
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def no_endless_loop() -> Iterator[None]:
    """HDF5 can loop for ever over a broken heap, where no signal handler of Python is heard."""
    faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()
