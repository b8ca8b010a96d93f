"""What a command writes replaces what it has written before, and nothing of anybody else's."""

import json
import os
import stat
import threading

import pytest

from lattice_flows.errors import InputError
from lattice_flows.outputs import FIGURE, OUTCOME, PAGE, SUMMARY, check_report, check_target, write_output

pytestmark = pytest.mark.quick

OURS = json.dumps({"theory": {}, "flow": None, "ensembles": {}, "later": 1}).encode()
PAGE_OF_BEFORE = b'<!DOCTYPE html>\n<a class="skip" href="#content">Skip to the report</a>'


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (SUMMARY, OURS),
        (SUMMARY, b""),  # as mktemp leaves it
        (OUTCOME, b'{"status": 0, "message": ""}'),
        (PAGE, PAGE_OF_BEFORE),
        (PAGE, b'<meta name="generator" content="lattice-flows">'),
        (FIGURE, b"%PDF-1.4 ... /Creator (Matplotlib v3.10.0)"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_an_earlier_one_of_the_same_kind_is_replaced(kind, content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    write_output(path, b"new", kind)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", [SUMMARY, OUTCOME, PAGE, FIGURE], ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "content", [b"\x89HDF\r\n\x1a\n", b'{"a": 1}', b"[1, 2]", b"\xff", b"[" * 10_000, b"seed = 1\n"], ids=repr
)
def test_what_is_not_of_the_kind_is_refused_and_kept(kind, content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    for act in (lambda: check_target(path, kind), lambda: write_output(path, b"new", kind)):
        with pytest.raises(InputError, match=f"file: exists, is not {kind.name}, and is not overwritten"):
            act()
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["a.h5", "a.segments", "a.lock"])
def test_the_names_of_ensembles_are_theirs_also_while_there_is_no_such_file(name, tmp_path):
    with pytest.raises(InputError, match=f"{name}: is the name of an ensemble"):
        write_output(tmp_path / name, b"new", SUMMARY)
    with pytest.raises(InputError, match=f"{name}: is the name of an ensemble"):
        check_report(tmp_path / name)
    assert not os.listdir(tmp_path)


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "link").symlink_to("end")
    for content in (b"", OURS):
        write_output(tmp_path / "link", content, SUMMARY)
        assert (tmp_path / "end").read_bytes() == content
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "end").write_text("precious")
    with pytest.raises(InputError, match="link: exists, is not"):
        write_output(tmp_path / "link", OURS, SUMMARY)


def test_pipes_and_devices_are_written_to_and_not_replaced(tmp_path, capfd, time_limit):
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    with pytest.raises(InputError, match="pipe: cannot be written"):  # nobody reads
        write_output(path, OURS, SUMMARY)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    for _ in range(1000):
        try:
            write_output(path, 2**20 * b"x", SUMMARY)  # more than a pipe holds
            break
        except InputError:  # it does not read yet
            threading.Event().wait(0.005)
    reader.join(10)
    assert read == [2**20 * b"x"]
    assert stat.S_ISFIFO(path.lstat().st_mode)
    write_output(tmp_path.__class__("/dev/null"), OURS, SUMMARY)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    for name in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        write_output(tmp_path.__class__(name), OURS, SUMMARY)
    assert capfd.readouterr().out == 3 * OURS.decode()


@pytest.mark.parametrize("what", ["folder", "cycle", "file in the way"])
def test_what_cannot_be_a_file_is_one_line(what, tmp_path):
    path = tmp_path / "x"
    if what == "folder":
        path.mkdir()
    elif what == "cycle":
        path.symlink_to("x")
    else:
        path.write_text("")
        path = path / "y"
    with pytest.raises(InputError, match="x: is a folder" if what == "folder" else "cannot be written"):
        write_output(path, OURS, SUMMARY)


@pytest.mark.parametrize(
    ("files", "refusal"),
    [
        ({}, ""),
        ({"notes.txt": b"mine"}, ""),
        ({"index.html": PAGE_OF_BEFORE, "pulls.csv": b"", "summary.json": OURS}, ""),
        ({"summary.json": OURS, "pulls.svg": b""}, ""),  # killed before there was a page
        ({"index.html": b"<html>mine</html>"}, r"index\.html: is of no report"),
        ({"index.html": b"<html>mine</html>", "summary.json": OURS}, r"index\.html: is of no report"),
        ({"index.html": PAGE_OF_BEFORE, "summary.json": b"{}"}, r"summary\.json: is of no report"),
        ({"pulls.csv": b"1,2"}, r"holds pulls\.csv and no report"),
    ],
)
def test_a_report_replaces_a_report(files, refusal, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    if refusal:
        with pytest.raises(InputError, match=refusal):
            check_report(tmp_path)
    else:
        check_report(tmp_path)
    check_report(tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: cannot be written: is a file, and a report needs a folder"):
        check_report(tmp_path / "file")
