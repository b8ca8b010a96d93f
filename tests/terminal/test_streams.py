"""Output that leads nowhere, is full, or cannot show a character."""

import os
import subprocess
import sys

import pytest
from cards import environment

from lattice_flows.terminal.streams import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x: χ = 1", "x: χ = 1"),
        ("a\nb\x1b[31m\r", "a\\nb\\x1b[31m\\r"),
        ("\udcff.h5", "\\udcff.h5"),
    ],
)
def test_a_line_is_one_line_and_commands_no_terminal(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("redirected", "status", "errors"),
    [
        ("--help >&-", 0, ""),
        ("--help > /dev/full", 1, "lattice-flows: output: No space left on device"),
        ("fly > /dev/full", 2, "lattice-flows: No such command 'fly'."),
        ("fly >&- 2>&-", 2, ""),
        ("fly 2> /dev/full", 2, ""),
    ],
)
def test_the_end_of_a_command(redirected, status, errors):
    command = ["bash", "-c", f"exec {sys.executable} -m lattice_flows.cli {redirected}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert (done.returncode, done.stderr.strip()) == (status, errors)


def test_a_name_of_any_bytes_is_told_in_one_line(lattice_flows):
    status, _, errors = lattice_flows("run", "a\nb\udcff.toml")
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.startswith("lattice-flows: a\\nb\\udcff.toml: No such file or directory")


def test_a_working_directory_that_is_gone(lattice_flows, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path)
    call, chdir = lattice_flows, monkeypatch.chdir

    def elsewhere(path):
        chdir(path)
        os.chdir("gone")
        (tmp_path / "gone").rmdir()

    monkeypatch.setattr(monkeypatch, "chdir", elsewhere)
    status, _, errors = call("run", "card.toml")
    assert (status, errors) == (2, "lattice-flows: the working directory no longer exists; change to another one\n")
    chdir(tmp_path)
