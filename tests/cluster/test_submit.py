"""Submitting: what goes to the scheduler, what is kept of it, and what is refused. Slurm's programs are stand-ins."""

import json
import re
from io import StringIO
from pathlib import Path

import pytest
from cards import WITH_FLOW
from cluster.programs import Programs
from rich.console import Console

from lattice_flows.cluster import cancel, plan, require_no_jobs, status, submit
from lattice_flows.errors import InputError
from lattice_flows.production.job_array import Task
from lattice_flows.stages import sample_stage

SLURM = 'scheduler = "slurm"\n[sample]\nchains_per_task = 8\narray_limit = 2\n'
CLASSICAL = """
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
[[ensemble]]
name = "hmc"
sampler = "hmc"
n_chains = 4
n_configs = 3
n_thermalisation = 2
n_md_steps = 2
"""


@pytest.fixture(autouse=True)
def programs(tmp_path, monkeypatch) -> Programs:
    programs = Programs(tmp_path / "programs")
    programs.slurm()
    monkeypatch.setenv("PATH", programs.environment()["PATH"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return programs


@pytest.fixture
def submitted(tmp_path):
    """Submit a card's text, or the run again, with a profile's text; returns what is printed."""

    def call(
        card: str | None = None, profile: str = SLURM, dry_run: bool = False, overrides: tuple[str, ...] = ()
    ) -> str:
        (tmp_path / "profile.toml").write_text(profile)
        source, out = tmp_path / "run", None
        if card is not None:
            source, out = tmp_path / "c.toml", Path("run")
            source.write_text(card)
        console = Console(file=StringIO(), width=120)
        submit(source, Path("profile.toml"), out, overrides, dry_run, console)
        return console.file.getvalue()

    return call


def jobs(folder: Path) -> dict:
    return json.loads((folder / "run" / "cluster" / "jobs.json").read_text())["stages"]


def test_all_stages_of_a_card_with_their_dependencies(programs, submitted, tmp_path):
    said = submitted(WITH_FLOW)
    cluster = tmp_path / "run" / "cluster"
    after = "--dependency=afterok:{} --kill-on-invalid-dep=yes"
    assert programs.calls("sbatch") == [
        f"--parsable {cluster}/train.sh",
        f"--parsable --array=0%2 {after.format(101)} {cluster}/sample-flow.sh",
        f"--parsable --array=0-2%2 {after.format(101)} {cluster}/sample-flow_hmc.sh",
        f"--parsable --array=0%2 {cluster}/sample-hmc.sh",
        f"--parsable {after.format('101:102:103:104')} {cluster}/analyse.sh",
    ]
    kept = jobs(tmp_path)
    assert [entry["job"] for entry in kept.values()] == ["101", "102", "103", "104", "105"]
    hmc = kept["sample-flow_hmc"]
    assert (hmc["tasks"], hmc["indices"], hmc["after"], hmc["dependencies"]) == (3, "0-2", ["train"], ["101"])
    assert "sample-flow_hmc: job 103; 3 tasks, at most 2 at once; after train\n" in said
    assert (cluster / "profile.toml").read_text() == SLURM


def test_a_dry_run_writes_and_prints_and_submits_nothing(programs, submitted, tmp_path):
    said = submitted(WITH_FLOW, dry_run=True)
    cluster = tmp_path / "run" / "cluster"
    for name in ("train", "sample-flow", "sample-flow_hmc", "sample-hmc", "analyse"):
        assert f"==> {cluster}/{name}.sh <==\n{(cluster / f'{name}.sh').read_text()}" in said
    assert (
        f"sbatch --parsable --array=0-2%2 --dependency=afterok:ID_OF_train --kill-on-invalid-dep=yes {cluster}" in said
    )
    assert programs.calls("sbatch") == []
    assert not (cluster / "jobs.json").exists()


def test_a_dry_run_needs_no_scheduler(programs, submitted, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "#SBATCH --job-name=analyse.run" in submitted(CLASSICAL, dry_run=True)
    with pytest.raises(InputError, match=r"scheduler = 'slurm': sbatch was not found; submit from a login node"):
        submitted(CLASSICAL)


def test_without_a_flow_there_is_no_training(programs, submitted, tmp_path):
    submitted(CLASSICAL)
    assert [call.rpartition("/")[2] for call in programs.calls("sbatch")] == ["sample-hmc.sh", "analyse.sh"]


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: fetch_config: DNS SRV lookup failed\nsbatch: fatal: Could not establish a configuration source",
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
    ],
)
def test_a_scheduler_without_a_server_is_told_as_such(words, programs, submitted):
    programs.install("sbatch", f"#!/bin/bash\necho '{words}' >&2\nexit 1\n")
    with pytest.raises(InputError, match=r"^sbatch: no controller can be reached from here; submit from a login node"):
        submitted(CLASSICAL)


def test_a_refused_job_takes_the_earlier_ones_with_it(programs, submitted, tmp_path):
    programs.refuse(3)
    with pytest.raises(InputError) as said:
        submitted(WITH_FLOW)
    assert str(said.value) == "sbatch: error: Batch job submission failed: Invalid account"
    assert programs.calls("scancel") == ["101 102"]
    assert {entry["job"] for entry in jobs(tmp_path).values()} == {None}


def test_ids_are_kept_where_the_earlier_jobs_cannot_be_cancelled(programs, submitted, tmp_path):
    programs.refuse(3)
    programs.install("scancel", "#!/bin/bash\nexit 1\n")
    with pytest.raises(InputError, match="Invalid account"):
        submitted(WITH_FLOW)
    assert [entry["job"] for entry in jobs(tmp_path).values()] == ["101", "102", None, None, None]


def test_each_id_is_kept_before_the_next_job_is_submitted(programs, submitted):
    submitted(WITH_FLOW)
    for n in range(1, 6):
        stages = json.loads((programs.home / f"jobs.{n}").read_text())["stages"]
        assert [entry["job"] for entry in stages.values() if entry["job"]] == [str(100 + k) for k in range(1, n)]


def test_a_run_that_has_jobs_is_refused(programs, submitted, tmp_path):
    submitted(CLASSICAL)
    programs.queue(("101_0", "RUNNING", 0, "None"), ("102", "PENDING", 0, "Dependency"))
    with pytest.raises(InputError, match=rf"still has jobs \(101, 102\); .* `lattice-flows cancel {tmp_path}/run`"):
        submitted()
    programs.queue(("101_0", "FAILED", 0, "NonZeroExitCode"), ("102", "CANCELLED", 0, "Dependency"))
    submitted()
    assert len(programs.calls("sbatch")) == 4


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_run_that_has_jobs_stays_as_it_is(programs, submitted, tmp_path, dry_run):
    """Neither its card nor the scripts that its jobs may still read are touched."""
    submitted(CLASSICAL)
    programs.queue(("101_0", "NEWFANGLED", 0, "None"))  # what is not known to have ended has not
    before = {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()}
    with pytest.raises(InputError, match=r"still has jobs \(101\)"):
        submitted(
            None, SLURM.replace("chains_per_task", "# chains_per_task"), dry_run, ("ensemble.hmc.n_configs=9999",)
        )
    assert {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()} == before


def test_nobody_else_works_on_a_run_that_has_jobs(programs, submitted, tmp_path):
    submitted(CLASSICAL)
    programs.queue(("101_0", "RUNNING", 0, "None"))
    with pytest.raises(InputError, match=r"still has jobs \(101\)"):
        require_no_jobs(tmp_path / "run", None)
    programs.queue(("101_0", "COMPLETED", 0, "None"))
    require_no_jobs(tmp_path / "run", None)
    require_no_jobs(tmp_path / "c.toml", tmp_path / "elsewhere")


def test_a_run_keeps_its_profile(programs, submitted, tmp_path):
    with pytest.raises(InputError, match="--cluster: name a profile"):
        submit(tmp_path / "c.toml", None, None, (), False, Console(file=StringIO()))
    submitted(CLASSICAL)
    submit(tmp_path / "run", None, None, (), False, Console(file=StringIO()))
    assert len(programs.calls("sbatch")) == 4


def test_nothing_is_submitted_of_a_finished_run(programs, submitted, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "unfinished_tasks", lambda folder, stage: [])
    assert "analyse: job 101" in submitted(CLASSICAL)
    (tmp_path / "run" / "report").mkdir()
    (tmp_path / "run" / "report" / "summary.json").touch()
    assert "everything is finished" in submitted()
    assert len(programs.calls("sbatch")) == 1


def test_paths_of_the_card_begin_where_it_was_first_submitted(submitted, tmp_path, monkeypatch):
    submitted(CLASSICAL)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "run").symlink_to(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "elsewhere")
    submit(Path("run"), tmp_path / "profile.toml", None, (), False, Console(file=StringIO()))
    assert f"\ncd {tmp_path} ||" in (tmp_path / "run" / "cluster" / "analyse.sh").read_text()


def test_a_run_whose_scheduler_does_not_answer_is_refused(programs, submitted, tmp_path):
    submitted(CLASSICAL)
    programs.install(
        "squeue", "#!/bin/bash\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2\nexit 1\n"
    )
    with pytest.raises(InputError, match=r"slurm, which does not answer \(.*Unable to contact.*delete .*jobs\.json$"):
        submitted()
    programs.install("squeue", "#!/bin/bash\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n")
    submitted()


def test_a_damaged_record_is_refused(submitted, tmp_path):
    submitted(CLASSICAL)
    path = tmp_path / "run" / "cluster" / "jobs.json"
    for text in (
        "",
        "[]",
        '{"stages": []}',
        path.read_text().replace("slurm", "sge"),
        path.read_text().replace("after", "x"),
        path.read_text().replace('"after": []', '"after": "train"'),
        path.read_text().replace('"directory": "', '"directory": 3, "x": "'),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=r"jobs\.json: damaged"):
            submitted()
    path.write_bytes(b"\xc0\xff")
    with pytest.raises(InputError, match=r"jobs\.json: damaged \(is not UTF-8 text\)"):
        submitted()


def test_only_unfinished_tasks_are_submitted(programs, submitted, tmp_path):
    profile = 'scheduler = "slurm"\n[sample]\nchains_per_task = 1\n'
    submitted(CLASSICAL, profile, dry_run=True)
    outcome = tmp_path / "run" / "cluster" / "outcomes" / "sample-hmc.2.json"
    outcome.touch()
    for index in (1, 3):
        sample_stage(tmp_path / "run", None, (), ["hmc"], Console(file=StringIO()), Task(index, 4))
    submitted(profile=profile)
    assert "--array=0,2%50" in programs.calls("sbatch")[0]
    assert not outcome.exists(), "of an earlier attempt"
    for index in (0, 2):
        sample_stage(tmp_path / "run", None, (), ["hmc"], Console(file=StringIO()), Task(index, 4))
    said = submitted(profile=profile)
    assert re.findall(r"(\S+): job", said) == ["analyse"]
    assert "--dependency" not in programs.calls("sbatch")[-1]
    assert (jobs(tmp_path)["sample-hmc"]["job"], jobs(tmp_path)["sample-hmc"]["tasks"]) == (None, 4)
    with pytest.raises(InputError, match=r"hmc\.\d\.h5: "):  # files of another number of tasks
        submitted(profile=profile.replace("1", "2"))
    submitted(profile=profile, overrides=("ensemble.hmc.n_configs=4",))
    assert "--array=0-3%50" in programs.calls("sbatch")[-2]


def test_an_ensemble_that_one_process_made(programs, submitted, tmp_path):
    submitted(CLASSICAL, dry_run=True)
    sample_stage(tmp_path / "run", None, (), ["hmc"], Console(file=StringIO()))
    assert re.findall(r"(\S+): job", submitted()) == ["analyse"]
    with pytest.raises(
        InputError, match=r"hmc\.h5: was begun by one process, not as a job array; let `lattice-flows sample` finish it"
    ):
        submitted(overrides=("ensemble.hmc.n_configs=4",))


def test_umbrella_tasks_hold_whole_sets_of_windows(programs, submitted):
    umbrella = CLASSICAL.replace('sampler = "hmc"', 'sampler = "umbrella"\nn_windows = 2\nq_max = 1.0')
    with pytest.raises(
        InputError, match=r"chains_per_task = 1: .* umbrella ensemble 'hmc' .* chains_per_task = 2 would"
    ):
        submitted(umbrella, SLURM.replace("8", "1"))
    submitted(umbrella, SLURM.replace("8", "2"))
    assert "--array=0-1%2" in programs.calls("sbatch")[0]


def test_pbs_gets_ranges_variables_and_dependencies(programs, submitted, tmp_path):
    programs.install("qsub", '#!/bin/bash\necho "$*" >>@HOME@/qsub\nwc -l <@HOME@/qsub\n')
    cluster = tmp_path / "run" / "cluster"
    submitted(WITH_FLOW, SLURM.replace("slurm", "pbs"))
    assert programs.calls("qsub") == [
        f"{cluster}/train.sh",
        f"-v TASK=0 -W depend=afterok:1 {cluster}/sample-flow.sh",
        f"-J 0-2%2 -W depend=afterok:1 {cluster}/sample-flow_hmc.sh",
        f"-v TASK=0 {cluster}/sample-hmc.sh",
        f"-W depend=afterok:1:2:3:4 {cluster}/analyse.sh",
    ]


def test_cancel_ends_what_is_left(programs, submitted, tmp_path):
    submitted(WITH_FLOW)
    programs.queue(
        ("101", "COMPLETED", 0, "None"), ("103_[1-2]", "PENDING", 0, "Priority"), ("103_0", "RUNNING", 0, "")
    )
    console = Console(file=StringIO(), width=120)
    cancel(tmp_path / "run", console)
    assert programs.calls("scancel") == ["103"]
    assert console.file.getvalue() == "cancelled 103: sample-flow_hmc\n"
    programs.queue()
    cancel(tmp_path / "run", console)
    assert console.file.getvalue().endswith("no job of the run is left; nothing to cancel\n")
    assert programs.calls("scancel") == ["103"]


def test_cancel_of_what_was_never_submitted(tmp_path):
    with pytest.raises(InputError, match="was never submitted, so there is nothing to cancel"):
        cancel(tmp_path, Console(file=StringIO()))


BANNER = """-----------------------
  Welcome to 2 clusters

--> Checking available allocation...OK
7 nodes are free
"""


def answer(programs: Programs, text: str) -> None:
    """What sbatch prints, with N for the number."""
    programs.install(
        "sbatch",
        '#!/bin/bash\ncd @HOME@ && n=$(($(cat n) + 1)) && echo $n >n && echo "$*" >>sbatch\n'
        f"n=$((100 + n))\ncat <<END\n{text.replace('N', '$n')}\nEND\n",
    )


@pytest.mark.parametrize(
    "text",
    [
        f"{BANNER}N\n",
        "Submitted batch job N",
        f"{BANNER}Submitted batch job N\n\n",
        "  N  ",
        "N\nsbatch: warning: 3 GPUs",
    ],
)
def test_the_id_is_found_among_what_the_site_prints(programs, submitted, tmp_path, text):
    answer(programs, text)
    said = submitted(CLASSICAL)
    assert [entry["job"] for entry in jobs(tmp_path).values()] == ["101", "102"]
    assert "--dependency=afterok:101 " in programs.calls("sbatch")[1]
    assert said.splitlines()[0] == "sample-hmc: job 101; 1 task, at most 2 at once"


@pytest.mark.parametrize("text", [BANNER, "", "job 7 accepted", "7.server", "N1;"])
def test_an_answer_without_an_id_is_refused(programs, submitted, tmp_path, text):
    answer(programs, text)
    with pytest.raises(InputError, match=r"sbatch: printed no job id but '.*'; .* look with `squeue --me`") as said:
        submitted(CLASSICAL)
    assert "\n" not in str(said.value)
    assert {entry["job"] for entry in jobs(tmp_path).values()} == {None}


@pytest.mark.parametrize(
    ("text", "directives"),
    [("N;genius_2", ""), ("Submitted batch job N on cluster genius_2", ""), ("N", '["-M genius_2"]')],
)
def test_the_cluster_of_a_job_is_kept(programs, submitted, tmp_path, text, directives):
    """Where a site has several, the number alone is that of another job."""
    answer(programs, text)
    there = '#!/bin/bash\necho "$*" >>@HOME@/{0}\ncase $* in *--clusters=genius_2*) ;; *) exit 1 ;; esac\n{1}\n'
    programs.install("squeue", there.format("squeue", "echo 'CLUSTER: genius_2'; cat @HOME@/queue"))
    programs.install("scancel", there.format("scancel", ""))
    submitted(CLASSICAL, f"directives = {directives}\n{SLURM}" if directives else SLURM)
    assert [entry["job"] for entry in jobs(tmp_path).values()] == ["101;genius_2", "102;genius_2"]
    assert "--clusters=genius_2 --dependency=afterok:101 " in programs.calls("sbatch")[1]
    programs.queue(("101_0", "RUNNING", 0, "None"), ("102", "PENDING", 0, "Dependency"))
    with pytest.raises(InputError, match=r"still has jobs \(101;genius_2, 102;genius_2\)"):
        submitted()
    console = Console(file=StringIO(), width=120)
    status(tmp_path / "run", console)
    assert "sample-hmc  running  101;genius_2" in console.file.getvalue()
    cancel(tmp_path / "run", console)
    assert programs.calls("scancel") == ["--clusters=genius_2 101 102"]


def test_jobs_on_two_clusters_cannot_wait_for_each_other(programs, submitted, tmp_path):
    answer(programs, "N;on_N")
    with pytest.raises(InputError, match=r"analyse needs jobs of the clusters on_101 and on_102, .* --clusters=NAME"):
        submitted(CLASSICAL + CLASSICAL[CLASSICAL.index("[[") :].replace('"hmc"', '"two"', 1))
    assert programs.calls("scancel") == ["--clusters=on_101 101", "--clusters=on_102 102"]


def most_tasks(programs: Programs, most: int) -> None:
    programs.install("scontrol", f"#!/bin/bash\necho 'MaxJobCount = 7'\necho 'MaxArraySize            = {most}'\n")


def test_more_tasks_than_an_array_has_are_refused_before_anything_is_done(programs, submitted, tmp_path):
    most_tasks(programs, 1001)
    large = CLASSICAL.replace("n_chains = 4", "n_chains = 6000")
    for profile, right in ((SLURM.replace("8", "1"), 6), (SLURM.replace("8", "5"), 6)):
        message = rf"profile\.toml: \[sample\]: chains_per_task = \d: makes \d+ tasks .* 1001 .*_task = {right} would"
        with pytest.raises(InputError, match=message):
            submitted(large, profile)
    assert programs.calls("sbatch") == []
    assert not (tmp_path / "run" / "card.toml").exists()
    submitted(large, SLURM.replace("8", "6"))
    assert "--array=0-999%2" in programs.calls("sbatch")[0]


def test_the_number_that_would_be_right_keeps_sets_whole(programs, submitted):
    most_tasks(programs, 5)
    windows = CLASSICAL.replace('sampler = "hmc"', 'sampler = "umbrella"\nn_windows = 4\nq_max = 1.0')
    with pytest.raises(InputError, match=r"makes 6 tasks .* chains_per_task = 8 would be right"):
        submitted(windows.replace("n_chains = 4", "n_chains = 24"), SLURM.replace("8", "4"))
    most_tasks(programs, 0)
    with pytest.raises(InputError, match=r"an array has 0 at most here \(MaxArraySize\)$"):
        submitted(CLASSICAL)


def test_where_the_limit_is_not_known_the_refusal_says_what_to_change(programs, submitted, tmp_path):
    refusal = "sbatch: error: Batch job submission failed: Invalid job array specification"
    programs.install("sbatch", f"#!/bin/bash\necho '{refusal}' >&2\nexit 1\n")
    for scontrol in ("exit 1", "echo MaxArraySize=many"):
        programs.install("scontrol", f"#!/bin/bash\n{scontrol}\n")
        with pytest.raises(InputError, match=r"array specification: too many tasks; raise chains_per_task in \[sample"):
            submitted(CLASSICAL)


def test_pbs_answers_with_banners(programs, submitted, tmp_path):
    programs.install("qsub", "#!/bin/bash\necho 'Welcome to 2 servers'\necho '12[].server_3.site'\necho ok\n")
    submitted(CLASSICAL, SLURM.replace("slurm", "pbs"))
    assert jobs(tmp_path)["sample-hmc"]["job"] == "12[].server_3.site"
