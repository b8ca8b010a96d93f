"""Files reach the page cache only: a SIGKILL does not empty it, and an fsync takes longer than the rest of a test."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
