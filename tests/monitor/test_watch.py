"""The live view of a run: every state told from files alone, nothing written, no line wrapped."""

import io
import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from cards import CLASSICAL, WITH_FLOW, claimed, interrupted_runs, set_pace
from rich.console import Console

from lattice_flows.ensembles import Block, Ensemble, FieldSpec
from lattice_flows.errors import InputError
from lattice_flows.monitor.screen import ASCII, sparkline
from lattice_flows.monitor.watch import watch
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.training.history import Record, append_record

SMALL = CLASSICAL.replace("n_configs = 600", "n_configs = 60").replace(
    "n_configs = 500", "n_configs = 5\nn_thermalisation = 5"
)
PER_COMMIT, SECONDS = 50, 0.5  # of the ensembles made here


def look(folder, width=120):
    """The lines of one look, which must leave the folder as it is."""
    before, file = listing(folder.path), io.StringIO()
    watch(folder.path, Console(file=file, width=width), 2.0, True)
    assert listing(folder.path) == before
    return file.getvalue().splitlines()


def listing(path):
    return {entry: (entry.stat().st_mtime_ns, entry.stat().st_size) for entry in (path, *path.rglob("*"))}


def row(lines, name):
    """The words of both lines of a row."""
    (first,) = [number for number, line in enumerate(lines) if line.startswith(f"{name} ") and " %" in line]
    return lines[first].split(), lines[first + 1].split()


def state(folder, name="hmc"):
    return row(look(folder), name)[0][1]


@pytest.fixture
def begun(card, tmp_path):
    """The folder of a run that has only just begun: there is the card alone."""
    claimed(card(CLASSICAL), tmp_path / "out", [])
    return RunFolder(tmp_path / "out")


def writer_of(path, charges=(0, 1, -1), log_w=None):
    """A writer that has committed the state in the middle of the thermalisation."""
    spec = FieldSpec("theta", ("mu", "x0", "x1"), (2, 4, 6))
    writer = Ensemble.create(path, header={}, chains=range(len(charges)), field=spec, store_fields=False)
    writer.commit({"n_thermalised": 12}, seconds=0.0)
    return writer


def commit(writer, times, charges=(0, 1, -1), proposals=None):
    for _ in range(times):
        rows = (PER_COMMIT, len(charges))
        series = {"accepted": np.full(rows, 0.75), "topological_charge": np.tile(np.float64(charges), (PER_COMMIT, 1))}
        writer.append(Block(series=series, proposals={} if proposals is None else {"log_w": proposals}))
        writer.commit({"n_thermalised": 30}, seconds=SECONDS)


def test_a_sparkline_of_a_charge_has_zero_in_the_middle():
    assert sparkline([0, 0, 0], 0.0, 0.0, 60) == "▄▄▄"
    assert sparkline([-1, 0, 1], -1.0, 1.0, 60) == "▁▄▇"
    assert sparkline([-2, -1, 0, 1, 2], -2.0, 2.0, 60) == "▁▃▄▅▇"
    assert sparkline([1, -1] * 3, -1.0, 1.0, 60) == "▇▁▇▁▇▁"
    assert sparkline([1, 1], -1.0, 1.0, 60) == "▇▇"  # frozen, and not at zero
    assert sparkline([-1, 0, 1], -1.0, 1.0, 60, ASCII) == ".=#"


def test_a_sparkline_takes_whatever_comes():
    assert sparkline([], -1.0, 1.0, 60) == ""
    assert sparkline([0.3], 0.0, 0.3, 60) == "▇"
    assert sparkline([0.0, np.nan, 1.0, np.inf, -np.inf, 7.0], 0.0, 1.0, 60) == "▁ ▇  ▇"
    assert sparkline([np.nan, 2.0], 2.0, 2.0, 60) == " ▄"
    long = sparkline(np.arange(100_000), 0.0, 99_999.0, 7)
    assert long == "▁▂▃▄▅▆▇"


def test_a_run_is_followed_from_its_beginning_to_its_end(card, tmp_path, monkeypatch):
    """A look before each leg of a run that is stopped again and again, and one when it is finished."""
    folder, path, looks = RunFolder(tmp_path / "out"), card(SMALL), []
    set_pace(monkeypatch, block_seconds=0.0)
    monkeypatch.setattr("lattice_flows.stages.write_report", lambda *_: None)
    claimed(path, folder.path, [])

    class LookBeforeEachLeg:
        def randint(self, low, high):
            looks.append(look(folder))
            return 18

    interrupted_runs(path, folder.path, monkeypatch, LookBeforeEachLeg())
    looks.append(look(folder))
    hmc = [row(lines, "hmc") for lines in looks]
    states = [first[1] for first, _ in hmc]
    assert (states[0], states[1], states[-1]) == ("waiting", "interrupted", "finished")
    progress = [(first[3], second[4]) for first, second in hmc if first[1] != "waiting"]
    assert progress[0] == ("60", "18/30")  # of the thermalisation
    counts = [int(count.split("/")[0]) for _, count in progress if count.endswith("/60")]
    assert counts == sorted(counts)
    assert len(set(counts)) >= 3
    assert counts[-1] == 60
    assert [row(lines, "direct")[0][1] for lines in (looks[0], looks[-1])] == ["waiting", "finished"]
    with Ensemble.open(folder.ensemble("hmc")) as ensemble:
        assert f"{ensemble.series('accepted').mean():.3f}" in hmc[-1][0]
        charges = [f"{round(q):+d}" for q in ensemble.series("topological_charge")[-1]]
    assert hmc[-1][1][-4:] == ["Q", *charges]


def test_a_running_ensemble_tells_progress_rate_and_age(begun):
    with writer_of(begun.ensemble("hmc")) as writer:
        assert row(look(begun), "hmc")[0][:4] == ["hmc", "thermalising", "███░░░░░", "40"]
        for charges in ((0, 1, -1), (0, 1, -1), (-2, 1, -1), (2, 1, -1)):
            commit(writer, 1, charges)
        last = begun.ensemble("hmc").with_suffix(".segments") / "000004.h5"
        os.utime(last, (then := time.time() - 1000, then))
        first, second = row(lines := look(begun), "hmc")
        assert " ".join(first[:-1]) == "hmc running ██░░░░░░ 33 % 100 /s accepted 0.750"
        assert list(dict.fromkeys(first[-1])) == ["▄", "▁", "▇"]  # 0, -2, 2 of the first chain
        assert " ".join(second) == "hmc 17 min ago 200/600 4 s left Q +2 +1 -1"
        assert f"hmc: written by process {os.getpid()} on {socket.gethostname()}" in lines
    assert state(begun) == "interrupted"


def test_a_lock_left_behind_is_told_from_one_that_is_held(begun):
    with writer_of(begun.ensemble("hmc")) as writer:
        commit(writer, 1)
    lock = begun.ensemble("hmc").with_suffix(".lock")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for holder, expected, note in (
        ({"host": socket.gethostname(), "pid": ended.pid}, "interrupted", "has ended; run again to continue"),
        ({"host": socket.gethostname(), "pid": os.getpid()}, "running", "written by process"),
        ({"host": "elsewhere", "pid": ended.pid}, "running", f"written by process {ended.pid} on elsewhere"),
        ({"host": socket.gethostname(), "pid": 10**30}, "running", "written by process"),
        ({}, "running", ""),
        ([], "running", ""),
    ):
        lock.write_text(json.dumps(holder))
        lines = look(begun)
        assert row(lines, "hmc")[0][1] == expected, holder
        assert note in lines[-1]
    lock.unlink()
    begun.ensemble("direct").with_suffix(".lock").write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    assert state(begun, "direct") == "starting"


def test_an_extended_run_is_not_finished(begun):
    with writer_of(begun.ensemble("hmc")) as writer:
        commit(writer, 4)
        writer.finish()
    assert state(begun) == "interrupted"  # 200 of the 600 that the card asks for
    with Ensemble.resume(begun.ensemble("hmc")) as writer:
        commit(writer, 8)
        assert state(begun) == "running"
        writer.finish()
    assert state(begun) == "finished"


def test_a_broken_segment_is_told_and_the_rest_is_shown(begun):
    for name in ("hmc", "direct"):
        with writer_of(begun.ensemble(name)) as writer:
            commit(writer, 2)
    broken = begun.ensemble("hmc").with_suffix(".segments") / "000002.h5"
    broken.write_bytes(broken.read_bytes()[:5000])
    lines = look(begun)
    assert row(lines, "hmc")[0][1] == "broken"
    assert row(lines, "direct")[0][1] == "interrupted"
    (note,) = [line for line in lines if line.startswith("hmc: ")]
    assert "hmc: ensembles/hmc.segments/000002.h5: broken" in note
    broken.unlink()
    assert state(begun) == "interrupted"


@pytest.mark.parametrize(("spread", "flag"), [(0.1, ""), (30.0, "!")])
def test_the_ess_is_that_of_the_proposals(begun, rng, spread, flag):
    log_w = spread * rng.standard_normal((500, 2))
    with writer_of(begun.ensemble("hmc"), charges=(0, 0)) as writer:
        commit(writer, 1, charges=(0, 0), proposals=log_w)
    weights = np.exp(log_w - log_w.max())
    ess = weights.sum() ** 2 / (weights.size * (weights**2).sum())
    lines = look(begun)
    second = row(lines, "hmc")[1]
    shown = second[second.index("ESS") + (3 if flag else 1)]  # ESS 0.98(1), or ESS at most 0.02 !
    assert float(shown.partition("(")[0]) == pytest.approx(ess, rel=0.2 if flag else 1e-3)
    assert ("!" in second) == bool(flag)
    assert any(line.startswith("! this ESS") for line in lines) == bool(flag)


def seen(step, ess, **more):
    """A look at a training."""
    return Record(step, step / 10, 12.34, ess, 1.0, 1e-3, 1.0, 1.0, **{"ess_error": 0.012, **more})


def test_the_training_shows_its_history(card, tmp_path):
    claimed(card(WITH_FLOW), tmp_path / "out", [])
    folder = RunFolder(tmp_path / "out")
    assert state(folder, "training") == "waiting"
    folder.flow.mkdir()
    for step, ess in ((0, 0.0), (40, 0.3), (80, 0.6)):
        append_record(folder.flow / "history.csv", seen(step, ess, n_samples=1024.0))
    first, second = row(look(folder), "training")
    assert " ".join(first) == "training interrupted █████░░░ 66 % 10.0 /s loss 12.34 ▁▄▇"
    assert " ".join(second) == "plaquette_coupling 0 s ago 80/120 4 s left ESS 0.600(12) ESS; step 80, 8 s"
    for more, shown in (
        ({"n_samples": 300.0}, "ESS 0.600(12) !"),  # too few
        ({"n_samples": 1024.0, "largest_share": 0.03}, "ESS 0.600(12) !"),  # one has half of the sum of squares
        ({"n_samples": 1024.0, "ess_error": None}, "ESS 0.60"),
        ({"n_samples": 999.0, "ess_error": None}, "ESS -"),  # never without its error
    ):
        append_record(folder.flow / "history.csv", seen(80, 0.6, **more))
        assert f" {shown} ESS; step" in " ".join(row(look(folder), "training")[1])
    lock = folder.flow / "training.lock"
    lock.touch()  # left by a training that ended
    assert state(folder, "training") == "interrupted"
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    assert state(folder, "training") == "running"
    (folder.flow / "history.csv").write_text("one,two\n1,2\n")
    assert state(folder, "training") == "broken"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_line_wraps(begun, width, rng):
    charges = (-12, 10, 11, -10, 13, 14, 15, 16)
    with writer_of(begun.ensemble("hmc"), charges=charges) as writer:
        commit(writer, 3, charges=charges, proposals=rng.standard_normal((500, 8)))
        lines = look(begun, width)
    assert len(lines) == 2 + 2 * 2 + 1  # title, two ensembles, the writer
    assert max(map(len, lines)) <= width
    first, second = row(lines, "hmc")
    assert " ".join(first[:-1]) == "hmc running ██░░░░░░ 25 % 100 /s accepted 0.750"
    assert set(first[-1]) == {"▁"}
    assert len(first[-1]) >= {80: 12, 120: 50, 200: 60}[width]
    assert not any("…" in word for word in (*first, *second))
    assert "-12" in second  # whole numbers, or none


@pytest.mark.parametrize(
    ("width", "bar", "figures"),
    [
        (24, "", ""),
        (32, "", ""),
        (40, "██░░░░░░ ", ""),
        (54, "██░░░░░░ ", " accepted 0.750"),
        (60, "██░░░░░░ ", " 100 /s accepted 0.750"),
    ],
)
def test_a_narrow_terminal_drops_whole_columns(begun, width, bar, figures):
    with writer_of(begun.ensemble("hmc")) as writer:
        commit(writer, 3)
    with writer_of(begun.ensemble("direct")) as writer:
        commit(writer, 12)
        writer.finish()
    lines = look(begun, width)
    assert max(map(len, lines)) <= width
    table = [line for line in lines[2:] if not line.startswith(("hmc:", "direct:"))]  # without title and notes
    assert not any("…" in line or "..." in line for line in table)
    assert " ".join(row(lines, "hmc")[0]) == f"hmc interrupted {bar}25 %{figures}"
    full = bar and "████████ "
    assert " ".join(row([*lines, ""], "direct")[0]) == f"direct finished {full}100 %{figures}"


@pytest.mark.parametrize("width", [24, 40, 60])
def test_a_narrow_terminal_tells_the_thermalisation(begun, width):
    with writer_of(begun.ensemble("hmc")):
        lines = look(begun, width)
    assert max(map(len, lines)) <= width
    first = row([*lines, ""], "hmc")[0]
    assert (*first[:2], *first[-2:]) == ("hmc", "thermalising", "40", "%")


def test_a_console_without_unicode(card, tmp_path):
    folder = RunFolder(tmp_path / "Läufe")
    claimed(card(CLASSICAL), folder.path, [])
    with writer_of(folder.ensemble("hmc")) as writer:
        commit(writer, 3, charges=(1, 2, 3))
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    watch(folder.path, Console(file=file, width=80), 2.0, True)
    file.seek(0)
    first, _ = row(file.read().splitlines(), "hmc")
    assert first[2] == "##......"
    assert set(first[-1]) == {"#"}


def test_in_a_terminal_it_ends_with_the_run(begun, monkeypatch):
    sleeps = []

    def finish(seconds):
        sleeps.append(seconds)
        with writer_of(begun.ensemble("hmc" if len(sleeps) == 1 else "direct")) as writer:
            commit(writer, 12)
            writer.finish()

    monkeypatch.setattr("lattice_flows.monitor.watch.time.sleep", finish)
    file = io.StringIO()
    watch(begun.path, Console(file=file, width=120, force_terminal=True), 0.7, False)
    assert sleeps == [0.7, 0.7]
    assert file.getvalue().count("waiting") == 3  # two at the first look, one at the second
    assert file.getvalue().rpartition("waiting")[2].count("finished") >= 2


def test_in_a_terminal_ctrl_c_ends_it(begun, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("lattice_flows.monitor.watch.time.sleep", interrupt)
    file = io.StringIO()
    watch(begun.path, Console(file=file, width=120, force_terminal=True), 2.0, False)
    assert "waiting" in file.getvalue()
    assert file.getvalue().endswith("\x1b[?25h")  # the cursor is back


def test_what_is_no_run_is_told(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        watch(tmp_path, Console(), 2.0, True)
    for interval in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="--interval"):
            watch(tmp_path, Console(), interval, True)
