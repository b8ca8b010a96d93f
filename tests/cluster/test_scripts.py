"""Job scripts: their text, and what they do when they run under bash, with stand-ins for what they call."""

import json
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from cards import WITH_FLOW
from cluster.programs import Programs, until

from lattice_flows.card.card import Card, parse_card
from lattice_flows.cluster.plan import left_to_do, plan
from lattice_flows.cluster.profile import Profile, parse_profile, read_profile
from lattice_flows.cluster.scripts import compressed, render
from lattice_flows.errors import InputError
from lattice_flows.production.run_folder import RunFolder

SHIPPED = sorted((Path(__file__).parents[2] / "runs" / "cluster").glob("*.toml"))
NASTY = 'it\'s "100%" $HOME `x` & more'

WHOLE = """
scheduler = "slurm"
account = "the account"
partition = "main"
qos = "high"
modules = ["CUDA/12.4", "a b"]
environment = ["source $HOME/venv/bin/activate"]
directives = ["--constraint=a100&ib"]
max_requeues = 7
save_seconds = 300

[train]
time = "1-00:00:00"
processes_per_node = 4
gpus_per_node = 4
cpus_per_process = 8
memory_gb = 64

[sample]
time = "08:00:00"
chains_per_task = 8
array_limit = 2
cpus = 3
gpus = 1
memory_gb = 0.5
partition = "other"
directives = ["--nice=10"]
"""


@pytest.fixture(scope="module")
def card() -> Card:
    return parse_card(WITH_FLOW)


@pytest.fixture
def programs(tmp_path) -> Programs:
    return Programs(tmp_path / "programs")


def scripts_of(card: Card, profile: Profile, folder: Path, directory: Path) -> dict[str, str]:
    run = RunFolder(folder)
    return {
        path.name: text
        for path, text in render(run, profile, left_to_do(run, card, plan(card, profile)), directory).items()
    }


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_script_of_every_shipped_profile_is_bash(card, path, tmp_path):
    scripts = scripts_of(card, read_profile(path), tmp_path / NASTY / "run", tmp_path / NASTY)
    assert {"train.sh", "sample-flow.sh", "sample-flow_hmc.sh", "sample-hmc.sh", "analyse.sh"} <= set(scripts)
    for name, text in scripts.items():
        assert text.startswith("#!/bin/bash\n")
        checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), name


def test_the_header_for_slurm(card, tmp_path):
    script = scripts_of(card, parse_profile(WHOLE), tmp_path / "run", tmp_path)["sample-flow_hmc.sh"]
    header = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    assert header == [
        "--job-name=sample-flow_hmc.run",
        f"--output={tmp_path}/run/cluster/logs/sample-flow_hmc.%a.out",
        "--open-mode=append",
        "--signal=B:USR1@300",
        "--requeue",
        "--nodes=1",
        "--ntasks-per-node=1",
        "--cpus-per-task=3",
        "--time=08:00:00",
        "--mem=512M",
        "--gres=gpu:1",
        "--account='the account'",
        "--partition=other",
        "--qos=high",
        "--array=0-2%2",
        "--constraint=a100&ib",
        "--nice=10",
    ]
    lines = script.splitlines()
    assert lines.index("module load CUDA/12.4") < lines.index("module load 'a b'")
    assert lines.index("module load 'a b'") < lines.index("source $HOME/venv/bin/activate")
    assert not any("export PATH" in line for line in lines)


def test_only_a_stage_with_a_flow_asks_for_gpus(card, tmp_path):
    scripts = scripts_of(card, parse_profile(WHOLE), tmp_path / "run", tmp_path)
    asks = {name: re.findall(r"--gres=gpu:\d", text) for name, text in scripts.items()}
    assert asks == {
        "train.sh": ["--gres=gpu:4"],
        "sample-flow.sh": ["--gres=gpu:1"],
        "sample-flow_hmc.sh": ["--gres=gpu:1"],
        "sample-hmc.sh": [],
        "analyse.sh": [],
        "torchrun.sh": [],
    }


def test_a_path_in_the_header_is_one_word(card, tmp_path):
    script = scripts_of(card, parse_profile(WHOLE), tmp_path / NASTY / "run", tmp_path)["train.sh"]
    (output,) = (line for line in script.splitlines() if line.startswith("#SBATCH --output="))
    word = shlex.split(output)[-1]
    assert word == f"--output={tmp_path}/{NASTY.replace('%', '%%')}/run/cluster/logs/train.out"


@pytest.mark.parametrize("name", ["back\\slash", "two\nlines"])
def test_a_path_that_no_header_can_hold_is_refused(card, tmp_path, name):
    with pytest.raises(InputError, match="job scripts cannot name a path with"):
        scripts_of(card, parse_profile(WHOLE), tmp_path / name, tmp_path)


def test_training_on_several_nodes_goes_through_srun(card, tmp_path):
    profile = parse_profile(WHOLE.replace("[train]", "[train]\nnodes = 3"))
    train = " ".join(scripts_of(card, profile, tmp_path / "run", tmp_path)["train.sh"].replace("\\\n", " ").split())
    assert "srun --nodes=3 --ntasks-per-node=1 --cpus-per-task=32 --kill-on-bad-exit=1 bash " in train
    assert "torchrun.sh --nnodes=3 --nproc-per-node=4 --max-restarts=0 --master-addr=" in train
    assert f"--no-python lattice-flows train {tmp_path}/run &" in train


@pytest.mark.parametrize(
    ("indices", "text"), [([0], "0"), ([0, 1, 2, 3], "0-3"), ([0, 2, 3, 7], "0,2-3,7"), ([5, 6], "5-6")]
)
def test_array_indices(indices, text):
    assert compressed(indices) == text


class Script:
    """A rendered stage in a folder with a nasty name, and how it ran."""

    def __init__(self, card: Card, programs: Programs, stage: str, profile: str, folder: Path) -> None:
        self.programs, self.stage, self.folder = programs, stage, folder
        self.cluster, directory = folder / "cluster", folder.parent
        environment = f"environment = [{json.dumps(f'export PATH={shlex.quote(str(programs.bin))}:$PATH')}]\n"
        for path in (self.cluster, self.cluster / "logs", self.cluster / "outcomes"):
            path.mkdir(parents=True)
        for name, text in scripts_of(card, parse_profile(environment + profile), folder, directory).items():
            (self.cluster / name).write_text(text)
        self.outcome = self.cluster / "outcomes" / f"{stage}.json"

    def start(self, *arguments: str, **variables: object) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", self.cluster / f"{self.stage}.sh", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.programs.environment(**{"SLURM_JOB_ID": 99, **variables}),
        )

    def signalled(self, number: signal.Signals, ready: str = "ready.0", **variables: object) -> tuple[int, str]:
        """Its status and output, with a signal once the program is ready."""
        process = self.start(**variables)
        self.programs.wait_for(ready)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def run(self, *arguments: str, **variables: object) -> tuple[int, str]:
        process = self.start(*arguments, **variables)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output


@pytest.fixture
def script(card, programs, tmp_path):
    def make(stage: str, profile: str = 'scheduler = "slurm"\nmax_requeues = 3') -> Script:
        return Script(card, programs, stage, profile, tmp_path / NASTY / "run")

    return make


TASK = {"SLURM_JOB_ID": 105, "SLURM_ARRAY_JOB_ID": 102, "SLURM_ARRAY_TASK_ID": 3}


def test_a_task_runs_what_a_person_would_type(script, programs):
    programs.lattice_flows("end(0, left=0)")
    sample = script("sample-flow_hmc", 'scheduler = "slurm"\n[sample]\ncpus = 3')
    outcome = sample.cluster / "outcomes" / "sample-flow_hmc.3.json"
    outcome.write_text("of an earlier attempt")
    status, output = sample.run(**TASK)
    called = programs.called()
    assert status == 0
    assert called["argv"] == ["sample", str(sample.folder), "--ensemble", "flow_hmc", "--task", "3/5"]
    assert (called["cwd"], called["outcome"]) == (str(sample.folder.parent), str(outcome))
    assert (called["left"], called["threads"]) == (False, "3")
    assert "sample-flow_hmc.3: ended with status 0" in output


@pytest.mark.parametrize("stage", ["train", "analyse"])
def test_the_jobs_of_a_run_share_their_kernels(script, programs, stage):
    programs.lattice_flows("end(0)")
    job = script(stage)
    assert job.run(NUMBA_CACHE_DIR="")[0] == 0
    assert programs.called()["kernels"] == str(job.cluster / "kernels")


def test_kernels_lie_where_the_profile_or_a_person_says(script, programs):
    programs.lattice_flows("end(0)")
    assert script("train").run(NUMBA_CACHE_DIR="/a place")[0] == 0
    assert programs.called()["kernels"] == "/a place"


def test_train_and_analyse_without_torchrun(script, programs):
    programs.lattice_flows("end(0)")
    train = script("train")
    assert train.run()[0] == 0
    assert programs.called()["argv"] == ["train", str(train.folder)]
    train.stage = "analyse"
    assert train.run()[0] == 0
    assert programs.called()["argv"] == ["analyse", str(train.folder)]


@pytest.mark.parametrize(
    ("does", "status"),
    [
        ("end(1, left=75)", 75),  # what torchrun makes of 75
        ("end(1, left=2, message='no \"status\": 0 of mine')", 2),
        ("end(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
    ],
    ids=["outcome", "nasty message", "no outcome", "killed"],
)
def test_the_status_is_that_of_the_outcome_or_of_the_program(script, programs, does, status):
    programs.lattice_flows(does)
    assert script("train").run()[0] == status
    assert programs.calls("scontrol") == []


def test_usr1_stops_the_program_and_requeues_the_task_alone(script, programs):
    programs.lattice_flows("wait_for_signal(); end(75, left=75)")
    status, output = script("sample-flow_hmc").signalled(signal.SIGUSR1, **TASK, SLURM_RESTART_COUNT=2)
    assert status == 75
    assert (programs.home / "heard.0").read_text() == "SIGUSR1"
    assert programs.calls("scontrol") == ["requeue 102_3"]
    assert "sample-flow_hmc.3: is requeued" in output


def test_usr1_requeues_a_job(script, programs):
    programs.lattice_flows("wait_for_signal(); end(75, left=75)")
    assert script("train").signalled(signal.SIGUSR1)[0] == 75
    assert programs.calls("scontrol") == ["requeue 99"]


def test_a_job_is_requeued_so_often_and_no_more(script, programs):
    programs.lattice_flows("wait_for_signal(); end(75, left=75)")
    status, output = script("train").signalled(signal.SIGUSR1, SLURM_RESTART_COUNT=3)
    assert status == 75
    assert programs.calls("scontrol") == []
    assert "train: was requeued max_requeues = 3 times: not again; submit the run again to continue" in output


def test_term_stops_the_program_for_good(script, programs):
    programs.lattice_flows("wait_for_signal(); end(75, left=75)")
    assert script("train").signalled(signal.SIGTERM)[0] == 75
    assert (programs.home / "heard.0").read_text() == "SIGTERM"
    assert programs.calls("scontrol") == []


def test_term_to_a_job_that_is_not_cancelled_requeues_it(script, programs):
    """A job of higher priority needs its node: Slurm sends TERM first."""
    programs.install("squeue", '#!/bin/bash\necho "$*" >>@HOME@/squeue\necho RUNNING\n')
    programs.lattice_flows("wait_for_signal(); end(75, left=75)")
    assert script("sample-flow_hmc").signalled(signal.SIGTERM, **TASK)[0] == 75
    assert programs.calls("squeue") == ["--noheader --jobs=102_3 --format=%T"]
    assert programs.calls("scontrol") == ["requeue 102_3"]


def test_a_job_that_stopped_by_itself_is_not_requeued(script, programs):
    programs.lattice_flows("end(75, left=75)")
    assert script("train").run()[0] == 75
    assert programs.calls("scontrol") == []


@pytest.mark.parametrize("status", [0, 5, 137])
def test_after_a_signal_the_status_is_the_programs_own(script, programs, status):
    """`wait` returned with that of the trap."""
    ends = "os.kill(os.getpid(), signal.SIGKILL)" if status == 137 else f"end({status})"
    programs.lattice_flows(f"wait_for_signal(); {ends}")
    assert script("train").signalled(signal.SIGUSR1)[0] == status
    assert programs.calls("scontrol") == []


def test_a_signal_before_the_program_listens_is_not_lost(script, programs):
    programs.lattice_flows("wait_for('imported'); wait_for_signal(); end(75, left=75)")
    process = script("train").start()
    programs.wait_for("called.0")
    assert programs.called()["usr1_ignored"]
    process.send_signal(signal.SIGUSR1)
    (programs.home / "imported").touch()
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert programs.calls("scontrol") == ["requeue 99"]


TWO = 'scheduler = "slurm"\n[train]\nprocesses_per_node = 2'


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, ["requeue 99"]), (signal.SIGTERM, [])])
def test_torchruns_ranks_get_the_signal_and_torchrun_does_not(script, programs, number, requeued):
    programs.torchrun()
    programs.lattice_flows("wait_for_signal(); end(75, left=75)")
    process = (train := script("train", TWO)).start()
    programs.wait_for("ready.0", "ready.1")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert [(programs.home / f"heard.{rank}").read_text() for rank in range(2)] == [number.name] * 2
    assert programs.called(1)["argv"] == ["train", str(train.folder)]
    assert programs.calls("scontrol") == requeued


def test_a_rank_that_does_not_listen_yet_gets_the_signal_later(script, programs):
    programs.torchrun()
    programs.lattice_flows("wait_for('imported'); wait_for_signal(); end(75, left=75)")
    process = script("train", TWO).start()
    programs.wait_for("called.0", "called.1")
    process.send_signal(signal.SIGUSR1)
    (programs.home / "imported").touch()
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert programs.calls("scontrol") == ["requeue 99"]


def test_a_launcher_that_dies_of_usr1_had_not_begun(script, programs):
    train = script("train", TWO)
    (train.cluster / "torchrun.sh").write_text(f"touch {programs.home}/ready.0\nexec {_real_sleep()} 60\n")
    assert train.signalled(signal.SIGUSR1)[0] == 75
    assert programs.calls("scontrol") == ["requeue 99"]


LOCAL = 'scheduler = "local"\n[sample]\nchains_per_task = 4\narray_limit = 2'


def test_all_stages_as_plain_processes(script, programs):
    programs.lattice_flows("Path(HOME, 'all').open('a').write(json.dumps(sys.argv[1:]) + '\\n'); end(0, left=0)")
    stages = script("all", LOCAL)
    assert stages.run() == (0, "")
    calls = [json.loads(line) for line in programs.calls("all")]
    run = str(stages.folder)
    tasks = [["sample", run, "--ensemble", "flow_hmc", "--task", f"{index}/5"] for index in range(5)]
    assert calls[0] == ["train", run]
    assert calls[-1] == ["analyse", run]
    assert len(calls) == 9
    assert sorted(call for call in calls if "flow_hmc" in call) == tasks
    assert "sample-flow_hmc.4: ended with status 0" in (stages.cluster / "logs" / "sample-flow_hmc.4.out").read_text()


def test_after_a_failed_stage_only_those_go_on_that_do_not_need_it(script, programs):
    programs.lattice_flows("end(1 if sys.argv[1] == 'train' else 0)")
    stages = script("all", LOCAL)
    _, output = stages.run()
    assert output.splitlines() == [
        "sample-flow: not started, because train did not finish",
        "sample-flow_hmc: not started, because train did not finish",
        "analyse: not started, because train did not finish",
    ]
    assert programs.called()["argv"][:4] == ["sample", str(stages.folder), "--ensemble", "hmc"]


def test_a_pbs_task_takes_its_number_from_the_array_or_from_a_variable(script, programs):
    programs.lattice_flows("end(0, left=0)")
    sample = script("sample-flow_hmc", 'scheduler = "pbs"')
    for variables in ({"PBS_ARRAY_INDEX": 2}, {"TASK": 2}):
        assert sample.run(**variables)[0] == 0
        assert programs.called()["argv"][-1] == "2/5"


PBS = 'scheduler = "pbs"\nsave_seconds = 1\n[train]\ntime = "00:00:02"'


def test_pbs_tells_a_job_to_save_before_its_time_limit(script, programs):
    programs.lattice_flows("wait_for_signal(); end(75, left=75)")
    train = script("train", PBS)
    assert train.run()[0] == 75
    assert (programs.home / "heard.0").read_text() == "SIGUSR1"
    assert "stopped with everything saved: submit the run again" in (train.cluster / "logs" / "train.out").read_text()


@pytest.mark.parametrize("end", ["end(0)", "os.kill(os.getppid(), signal.SIGKILL)"])
def test_the_timer_of_a_pbs_job_ends_with_it(script, programs, end):
    """Also where the script is killed: what it left would signal a process that has its number by then."""
    programs.lattice_flows(end)
    (programs.bin / "sleep").unlink()  # the real one, should it be used
    train = script("train", PBS.replace("02", "59"))
    train.run()
    until(lambda: not _of_script(train), seconds=10)


def _of_script(script: Script) -> list[str]:
    """The processes that run the script, or work for it."""
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _is_readable(path)]
    return [command.decode() for command in commands if os.fsencode(script.cluster) in command]


def _is_readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def _real_sleep() -> str:
    return subprocess.run(["which", "sleep"], capture_output=True, text=True, check=True).stdout.strip()
