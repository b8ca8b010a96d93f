"""Every ESS that a run shows has its error: in the terminal, live, on the page and in summary.json."""

import io
import json
import math
import re
from html import unescape

import pytest
from rich.console import Console

from lattice_flows.monitor.watch import watch
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.report.training_figures import training_plots
from lattice_flows.stages import run, train_stage

THEORIES = {
    "u1": 'name = "u1"\nshape = [4, 4]\nbeta = 1.0',
    "u1_improved": 'name = "u1_improved"\nshape = [4, 4]\nbeta = 2.0\nc1 = 0.05',
    "phi4_3d": 'name = "phi4"\nshape = [4, 2, 2]\nm2 = 1.0\nlam = 1.0',
    "phi4_hopping": 'name = "phi4_hopping"\nshape = [4, 4]\nkappa = 0.15\nlam = 0.2',
}
CHECKERBOARD = 'name = "checkerboard_coupling"\nn_layers = 2\nhidden = [4]\nkernel = 3'
CASES = {
    "structured": ("u1", 'name = "multiscale"\nconditioner = "structured"'),
    "exact": ("u1", 'name = "multiscale"\nconditioner = "exact"'),
    "hybrid": ("u1_improved", 'name = "hybrid"\nn_layers = 8\nhidden = [4]'),
    "phi4_3d": ("phi4_3d", CHECKERBOARD),
    "phi4_hopping": ("phi4_hopping", CHECKERBOARD + '\ntransform = "affine"\nprior = "gaussian"'),
}
REST = """
[training]
max_steps = 6
monitor_every = 3
monitor_samples = 200

[[ensemble]]
name = "metropolis"
sampler = "flow_metropolis"
n_configs = 300

[[ensemble]]
name = "samples"
sampler = "flow_samples"
n_configs = 300

[[ensemble]]
name = "hmc"
sampler = "hmc"
n_configs = 300
n_md_steps = 6
"""
WITHOUT_ERROR = re.compile(
    r"ESS(?: =)? (?!-)(?![^\s,;]*\(\d)(?=[\d.])\S*"
)  # "ESS 0.93", but not "ESS 0.93(2)" or "ESS -"


def text_of(name):
    theory, flow = CASES[name]
    return f"seed = 3\n[theory]\n{THEORIES[theory]}\n[flow]\n{flow}\n{REST}"


class Told:
    """A finished run, and all that was printed of it."""

    def __init__(self, name, folder):
        card, log = folder / "card.toml", io.StringIO()
        card.write_text(text_of(name))
        self.folder, console = RunFolder(folder / "out"), Console(file=log, width=120)
        self.flow_line = train_told(card, self.folder)
        self.summary = run(card, self.folder.path, console=console)
        watch(self.folder.path, console, 2.0, True)
        self.log = log.getvalue()
        self.page = (self.folder.report / "index.html").read_text("utf-8")

    def tables(self):
        """Caption -> rows of texts, the headings first, of every table of the page."""
        for table in re.findall(r"<table>.*?</table>", self.page, re.DOTALL):
            caption, *_ = re.findall(r"<caption>(.*?)</caption>", table)
            rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
            yield (
                plain(caption),
                [[plain(cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows],
            )


def train_told(card, folder):
    """What `train` prints of the flow at its end."""
    log = io.StringIO()
    train_stage(card, folder.path, (), Console(file=log, width=120))
    return log.getvalue()


def only_the_training(analysis, history):
    return training_plots(history, analysis.sampled)


def plain(markup):
    return unescape(re.sub(r"<[^>]*>", "", markup))


@pytest.fixture(scope="module", params=CASES)
def told(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr("lattice_flows.report.page.all_plots", only_the_training)  # the others take their time
        return Told(request.param, tmp_path_factory.mktemp(request.param))


def test_no_ess_without_its_error(told):
    assert not WITHOUT_ERROR.findall(told.log + told.flow_line)
    assert re.search(
        r"flow: ESS (at most [\d.]+|[\d.]+\(\d+\)) of 16384 samples; largest weight \S+ x mean", told.flow_line
    )
    assert re.search(r"ESS [\d.]+\(\d", told.log)  # the live table has one
    assert not WITHOUT_ERROR.findall(plain(told.page))
    columns = 0
    for _, (headings, *rows) in told.tables():
        for at in [k for k, heading in enumerate(headings) if "ESS" in heading]:
            if headings[0].startswith("training"):
                continue  # the figure's data, with the error in the next column
            columns += 1
            assert all(re.fullmatch(r"-|at most [\d.]+|[\d.]+\([\d.]+\)( × 10.*)?", row[at]) for row in rows), rows
    assert columns >= 3  # of the weights, and two of the mode-collapse test


def test_what_is_planted_is_found():
    """The pattern above sees what it should."""
    assert WITHOUT_ERROR.findall("ESS 0.93, log Z")
    assert WITHOUT_ERROR.findall("ESS = 0.93 after")
    assert not WITHOUT_ERROR.findall("ESS 0.93(2), ESS = 0.930(21); ESS -, ESS within")


def test_the_summary_knows_share_tail_and_both_views(told):
    flow = json.loads((told.folder.report / "summary.json").read_text())["flow"]
    assert flow["n_samples"] == 16_384
    assert flow["ess_error"] > 0
    assert flow["largest_weight_over_mean"] == pytest.approx(16_384 * flow["largest_weight_share"])
    assert flow["largest_weight_over_mean"] >= 1.0
    assert {"pareto_k", "reliable", "dominated", "warnings"} <= flow.keys()
    assert list(flow["forward"]) == ["hmc"]
    forward = flow["forward"]["hmc"]
    assert forward["verdict"] in ("passed", "weights too uneven to tell", "ensemble hardly moves, tells nothing")
    if flow["reliable"]:  # both views of one flow
        assert abs(forward["ess"] - flow["ess"]) < 4.5 * math.hypot(forward["ess_error"], flow["ess_error"])


def test_the_weights_are_told_by_sector(told):
    flow = told.summary["flow"]
    scalar = told.summary["theory"]["name"].startswith("phi4")
    rows = flow["signs"] if scalar else flow["topology"]["weights"]
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    assert sum(row["n_configs"] for row in rows) == flow["n_samples"]
    for row in rows:
        assert (row["ess_error"] is None) == (row["n_configs"] < 2)
        assert 0.0 < row["ess"] <= 1.0
        if row["exact"] is not None and row["share_error"] is not None and flow["reliable"]:
            assert abs(row["share"] - row["exact"]) < 4.5 * row["share_error"]
    captions = {caption for caption, _ in told.tables()}
    wanted = "Weights by the sign of the magnetisation" if scalar else "fresh flow samples: weights per sector"
    assert wanted in captions


def test_a_chain_of_a_flow_starts_from_it(told):
    """A flow may give hot configurations a density so small that no proposal would ever be accepted."""
    ensembles = told.summary["ensembles"]
    assert ensembles["metropolis"]["settings"]["start"] == "flow"
    assert ensembles["hmc"]["settings"]["start"] == "hot"


def test_the_live_view_of_a_finished_run_has_the_final_ess(told):
    ess = re.search(r"flow: (ESS (at most )?\S+)", told.flow_line)[1]
    (training,) = [line for line in told.log.splitlines() if line.startswith("training ")]
    assert "finished" in training
    assert "100 %" in training
    assert ess in told.log[told.log.index(training) :]
