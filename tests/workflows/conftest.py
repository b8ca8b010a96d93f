"""Running small cards as a user would."""

import sys
from pathlib import Path

import pytest

from lattice_flows.cli import main


@pytest.fixture(autouse=True)
def _runs_on_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def card(tmp_path):
    """Write a card's text to a file."""

    def write(text: str, name: str = "card.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def lattice_flows(tmp_path, monkeypatch, capsys):
    """The command line, called in tmp_path; returns (status, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["lattice-flows", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return call
