"""Files that a person names: what is no file is told at once, and `~` and byte order marks are understood."""

import os
import socket
from pathlib import Path

import pytest
from odd_files import ODD, make_odd

from lattice_flows.regular_files import (
    arguments_at_home,
    at_home,
    open_regular,
    read_text,
    real,
    require_regular,
)
from lattice_flows.training import CheckpointError, read_history

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("act", [require_regular, open_regular, read_text])
def test_what_is_no_regular_file_is_told_at_once(act, kind, tmp_path, time_limit):
    path = make_odd(kind, tmp_path / "odd")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError) as refused:  # noqa: PT011  (what it says is looked at below)
        act(path)
    assert ODD[kind] in refused.value.strerror
    assert refused.value.filename in (str(path), path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_socket(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(OSError, match="is a socket, not a file"):
            open_regular(tmp_path / "s")


def test_a_byte_order_mark_and_line_ends_of_windows(tmp_path):
    path = tmp_path / "card.toml"
    path.write_bytes("﻿beta = 6\r\n# χ\r\n".encode())
    assert read_text(path) == "beta = 6\n# χ\n"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UnicodeDecodeError):
        read_text(path)


def test_a_file_with_holes_is_not_read(tmp_path):
    (path := tmp_path / "card.toml").touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match="has 1099511627776 bytes, which is too many"):
        read_text(path)
    with pytest.raises(CheckpointError, match="not a readable training history"):
        read_history(path)


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert at_home("~/a.h5") == tmp_path / "a.h5"
    given = ["analyse", "~/a.h5", "--json=~/b.json", "--out=~", "x~", "--derive", "a = ~"]
    here = str(tmp_path)
    expected = [
        "analyse",
        f"{here}/a.h5",
        f"--json={here}/b.json",
        f"--out={here}",
        "x~",
        "--derive",
        "a = ~",
    ]
    assert arguments_at_home(given) == expected


def test_a_cycle_of_links_is_no_error_before_it_is_opened(tmp_path):
    path = make_odd("cycle of links", tmp_path / "odd")
    assert real(path).name.startswith("odd")
    (tmp_path / "link").symlink_to("file")
    assert real(tmp_path / "link") == Path(os.path.realpath(tmp_path)) / "file"
