"""The command line: statuses, one-line errors, and what a light command must not load."""

import json
import os
import subprocess
import sys

import pytest
from cards import CLASSICAL, WITH_FLOW, environment

from lattice_flows.production.run_folder import RunFolder
from lattice_flows.stages import run
from lattice_flows.theories import ExactU1

HEAVY = ("torch", "numba", "scipy", "h5py", "pydantic", "matplotlib")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    (folder / "classical.toml").write_text(CLASSICAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        run(folder / "classical.toml", folder / "run")
    return RunFolder(folder / "run")


@pytest.mark.parametrize(
    "code",
    [
        "import lattice_flows",
        "import sys; sys.argv = ['x', '--help']; from lattice_flows.cli import app; app(standalone_mode=False)",
    ],
)
def test_light_commands_load_nothing_heavy(code):
    report = f"{code}\nimport sys\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_every_command(lattice_flows):
    status, out, _ = lattice_flows("--help")
    assert status == 0
    commands = "run train sample analyse submit status cancel watch measure export import info verify exact"
    for command in commands.split():
        assert command in out


def one_line(errors):
    (line,) = errors.strip().splitlines()
    assert line.startswith("lattice-flows: ")
    return line


def test_stages_one_by_one_are_the_whole_job(card, lattice_flows, tmp_path):
    path = card(WITH_FLOW)
    short = ["--set", "training.max_steps=10", "--set", "ensemble.flow_hmc.n_md_steps=2", "--out", "run"]
    status, _, errors = lattice_flows("sample", path, *short)
    assert status == 2
    assert "the flow of the ensemble 'flow' is not trained" in one_line(errors)
    assert lattice_flows("train", path, *short)[0] == 0
    assert lattice_flows("sample", path, *short, "--ensemble", "hmc")[0] == 0
    assert not RunFolder(tmp_path / "run").ensemble("flow").exists()
    assert lattice_flows("sample", "run")[0] == 0
    status, out, _ = lattice_flows("analyse", "run", "--json", "numbers.json")
    assert status == 0
    assert "flow_hmc" in out
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers == json.loads((tmp_path / "run" / "report" / "summary.json").read_text())
    assert "n_parameters" in lattice_flows("info", "run/flow/checkpoint.pt")[1]
    assert lattice_flows("verify", "run/flow/checkpoint.pt")[0] == 0


def test_files_are_analysed_as_the_run_was(finished, lattice_flows, tmp_path):
    status, _, errors = lattice_flows("analyze", finished.ensemble("hmc"), "--json", "one.json")
    assert status == 0, errors
    one = json.loads((tmp_path / "one.json").read_text())
    whole = json.loads((finished.report / "summary.json").read_text())
    assert one["ensembles"]["hmc"] == whole["ensembles"]["hmc"]


def test_the_same_chains_do_not_count_twice_and_other_runs_go_by_their_folder(finished, lattice_flows, tmp_path):
    copy = tmp_path / "copied" / "ensembles" / "hmc.h5"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(finished.ensemble("hmc").read_bytes())
    status, _, errors = lattice_flows("analyse", finished.ensemble("hmc"), copy)
    assert status == 2
    assert "holds the same chains as" in one_line(errors)
    assert lattice_flows("run", finished.path.parent / "classical.toml", "--out", "again", "--set", "seed=11")[0] == 0
    files = [finished.ensemble("direct"), "again/ensembles/direct.h5"]
    assert lattice_flows("analyse", *files, "--json", "two.json")[0] == 0
    assert json.loads((tmp_path / "two.json").read_text())["ensembles"]["direct"]["n_chains"] == 8

    path = tmp_path / "other.toml"
    path.write_text(CLASSICAL.replace("seed = 5", "seed = 6"))
    assert lattice_flows("sample", path, "--ensemble", "hmc")[0] == 0
    other = tmp_path / "output" / "other" / "ensembles" / "hmc.h5"
    assert lattice_flows("analyse", finished.ensemble("hmc"), other, "--json", "both.json")[0] == 0
    assert set(json.loads((tmp_path / "both.json").read_text())["ensembles"]) == {"run/hmc", "other/hmc"}

    path.write_text(CLASSICAL.replace("beta = 1.5", "beta = 1.6"))
    assert lattice_flows("sample", path, "--out", "third", "--ensemble", "hmc")[0] == 0
    status, _, errors = lattice_flows("analyse", finished.ensemble("hmc"), "third/ensembles/hmc.h5")
    assert status == 2
    assert "different theories" in one_line(errors)


def test_a_pattern_without_a_match_is_told_as_such(lattice_flows):
    for arguments in (["analyse", "a/*.h5"], ["import", "a/*.npy", "--coupling", "beta=2.0", "--out", "b.h5"]):
        status, _, errors = lattice_flows(*arguments)
        assert (status, one_line(errors)) == (2, f"lattice-flows: {arguments[1]}: no file matches")


def test_info_and_verify(finished, lattice_flows):
    status, out, _ = lattice_flows("info", finished.ensemble("hmc"))
    assert status == 0
    for fact in ("u1", "n_configs", "600", "plaquette", "software"):
        assert fact in out
    status, out, _ = lattice_flows("verify", finished.ensemble("hmc"))
    assert (status, bool(out.strip())) == (0, True)


def test_damaged_and_foreign_files_end_with_one_line(finished, lattice_flows, tmp_path):
    data = finished.ensemble("hmc").read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    files = {
        "truncated.h5": data[: len(data) // 2],
        "empty.h5": b"",
        "text.h5": b"not an ensemble",
        "flipped.h5": bytes(flipped),
        "foreign.pt": b"not a checkpoint",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        status, _, errors = lattice_flows("verify", name)
        assert status == 2
        assert name in one_line(errors)
        assert (tmp_path / name).read_bytes() == content
    for name in ("truncated.h5", "none.h5", "none.pt"):
        for command in ("info", "analyse"):
            status, _, errors = lattice_flows(command, name)
            assert status == 2
            assert name in one_line(errors)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "give a run card"),
        (["train"], "Missing argument"),
        (["run", "none.toml"], "none.toml: No such file"),
        (["run", "card.toml", "--ot", "x"], "No such option"),
        (["fly"], "No such command 'fly'"),
        (["exact", "u2", "--beta", "1", "--shape", "4", "4"], "no closed forms for 'u2'"),
        (["exact", "u1", "--beta", "-1", "--shape", "4", "4"], "beta must be a number between 0 and 1e+06"),
        (["exact", "u1", "--beta", "x", "--shape", "4", "4"], "Invalid value for '--beta'"),
        (["exact", "u1", "--beta", "1", "--shape", "1", "4"], "--shape 1 4: sides must be between 2 and 4096"),
        (["analyse", "run.toml", "x.h5"], "give one run, or ensemble files only"),
        (["sample", "card.toml", "--ensemble", "none"], "unknown name 'none'"),
        (["sample", "card.toml", "--task", "4/4"], "tasks are counted from 0"),
        (["submit", "card.toml"], "--cluster: name a profile"),
        (["verify", "."], "holds a card and no run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_calls_end_with_one_line_and_status_2(card, lattice_flows, arguments, message):
    card(CLASSICAL)
    status, _, errors = lattice_flows(*arguments)
    assert status == 2
    assert message in one_line(errors)


def test_unwritable_output(card, lattice_flows, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, errors = lattice_flows("run", card(CLASSICAL), "--out", "file/run")
    assert status == 2
    assert "file/run" in one_line(errors)


def test_exact_prints_a_number_a_line(lattice_flows):
    status, out, _ = lattice_flows("exact", "u1", "--beta", "2", "--shape", "8", "8")
    assert status == 0
    table = {line[:30].strip(): float(line[30:]) for line in out.splitlines()}
    assert table["P(Q = -1)"] == pytest.approx(ExactU1(2.0, 64).charge_distribution(1)[0], rel=1e-11)


def test_exact_prints_closed_forms(lattice_flows):
    status, out, _ = lattice_flows("exact", "u1", "--beta", "6", "--shape", "16", "16", "--json")
    assert status == 0
    values, exact = json.loads(out), ExactU1(6.0, 256)
    assert values["plaquette"] == exact.plaquette
    assert values["log_z"] == exact.log_z
    assert values["charge_distribution"]["0"] == pytest.approx(exact.charge_distribution(0)[0])
    assert "plaquette" in lattice_flows("exact", "u1", "--beta", "6", "--shape", "16", "16")[1]


def test_exact_knows_theories_by_name(lattice_flows):
    critical = ("--beta", "0.44068679350977147", "--shape", "4", "4")
    values = json.loads(lattice_flows("exact", "ising", *critical, "--json")[1])
    assert values["log_z"] == pytest.approx(15.521915, abs=5e-7)
    assert {"energy", "specific_heat"} <= set(values)
    status, _, errors = lattice_flows("exact", "xy", *critical)
    assert status == 2
    assert one_line(errors).endswith("there are no closed forms for 'xy'")


def test_the_thread_count_of_a_flow_chain_is_kept_or_the_resume_refused(card, lattice_flows, tmp_path):
    import h5py

    from lattice_flows.ensembles.checksum import header_sha256

    path = card(WITH_FLOW)
    short = ["--set", "training.max_steps=10", "--out", "run"]
    assert lattice_flows("train", path, *short)[0] == 0
    assert lattice_flows("sample", path, *short, "--ensemble", "flow")[0] == 0
    with h5py.File(tmp_path / "run" / "ensembles" / "flow.h5", "r+") as file:
        file.attrs["threads"] = 1000
        file.attrs["header_sha256"] = header_sha256(dict(file.attrs))
    status, _, errors = lattice_flows("sample", "run", "--ensemble", "flow", "--set", "ensemble.flow.n_configs=500")
    assert status == 2
    assert "was begun on 1000 threads" in one_line(errors)
    assert os.listdir(tmp_path / "run" / "ensembles")


def test_a_reader_who_leaves_stops_no_work(card, tmp_path):
    """As `| head -1`: what is printed goes nowhere, the run goes on to its end."""
    path = card(CLASSICAL)
    arguments = ["run", str(path), "--out", str(tmp_path / "out"), "--set", "ensemble.hmc.n_configs=20"]
    for command, status in ((arguments, 0), (["exact", "u1", "--beta", "2", "--shape", "8", "8"], 0), (["fly"], 2)):
        program = [sys.executable, "-m", "lattice_flows.cli", *command]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(program, env=environment(), **pipes) as process:
            process.stdout.close()
            errors = process.stderr.read().decode()
            assert process.wait(timeout=120) == status, errors
        assert "Traceback" not in errors
    assert (tmp_path / "out" / "report" / "summary.json").exists()


def test_how_a_command_ended_is_left_for_a_job_script(card, lattice_flows, tmp_path, monkeypatch):
    monkeypatch.setenv("LATTICE_FLOWS_OUTCOME", str(tmp_path / "outcome.json"))

    def outcome():
        return json.loads((tmp_path / "outcome.json").read_text())

    status, _, errors = lattice_flows("run", card("theory = 1"))
    assert status == 2
    assert outcome() == {"status": 2, "message": errors.strip().removeprefix("lattice-flows: ")}
    assert lattice_flows("exact", "u1", "--beta", "1", "--shape", "4", "4")[0] == 0
    assert outcome() == {"status": 0, "message": ""}


def test_of_several_processes_only_the_first_speaks_and_only_train_is_theirs(card, lattice_flows, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    status, _, errors = lattice_flows("run", card(CLASSICAL))
    assert status == 2
    assert "run: runs as one process" in one_line(errors)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    status, _, errors = lattice_flows("train", card(WITH_FLOW))
    assert status == 2
    assert "start several processes with torchrun" in one_line(errors)


LONG = "n" * 300


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["analyse", "FILE", "--every", 10**20], "--every 100000000000000000000: must be between 1 and"),
        (["analyse", "FILE", "--thermalisation", 10**20], "--thermalisation 100000000000000000000: must be between 0"),
        (["analyse", "FILE", "--json", "/"], "/: is a folder; give the name of a file"),
        (["analyse", "FILE", "--report", LONG], f"{LONG}"),
        (["analyse", f"{LONG}.h5"], f"{LONG}.h5: File name too long"),
        (["run", f"{LONG}.toml"], f"{LONG}.toml: File name too long"),
        (["run", "CARD", "--out", LONG], f"/{LONG}: File name too long"),
        (["sample", "CARD", "--out", f"a/{LONG}/b"], f"a/{LONG}/b: cannot be written: File name too long"),
        (["info", LONG], f"{LONG}: File name too long"),
        (["watch", LONG, "--once"], f"{LONG}: File name too long"),
        (["export", "FILE", "--to", "npy", "--out", LONG], f"{LONG}: File name too long"),
        (["sample", "CARD", "--set", f"ensemble.hmc.start={LONG}.h5"], f"{LONG}.h5: File name too long"),
        (["sample", "CARD", "--set", "seed=2\nfoo=3"], "--set 'seed=2\\nfoo=3': must be one assignment"),
        (["sample", "CARD", "--set", "seed=2\n[theory]\nbeta=3"], "must be one assignment"),
    ],
)
def test_what_is_too_large_or_too_long_is_one_line(arguments, text, finished, card, lattice_flows, tmp_path):
    places = {"FILE": finished.ensemble("hmc"), "CARD": card(CLASSICAL)}
    status, _, errors = lattice_flows(*(places.get(one, one) for one in arguments))
    assert status == 2, errors
    line = one_line(errors)
    assert text in line
    if "File name" in text:
        assert line.endswith("File name too long")
    assert not (tmp_path / "output").exists()


def test_a_mean_of_what_is_not_finite_gives_no_warning_of_python(finished, lattice_flows):
    status, out, errors = lattice_flows("analyse", finished.ensemble("hmc"), "--derive", "x = mean(log(-plaquette))")
    assert (status, errors) == (0, "")
    assert "x: no estimate: the series holds values that are infinite or not a number" in out


def test_a_file_that_may_not_be_read_is_not_called_broken(finished, lattice_flows, monkeypatch, tmp_path):
    """The tests may run as root, who may read everything."""
    path = tmp_path / "mine.h5"
    path.write_bytes(finished.ensemble("hmc").read_bytes())
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        path.parent.chmod(0o755)
        os.chown(path, 1, 1)
        monkeypatch.setattr("h5py.h5f.open", refused_by_the_system)
    status, _, errors = lattice_flows("analyse", path)
    assert status == 2
    assert one_line(errors) == f"lattice-flows: {path}: permission denied; its owner can let you read it"


def refused_by_the_system(name, *_, **__):
    raise PermissionError(13, f"Unable to synchronously open file (unable to open file: name = {name!r})")
