"""The report of a run: every number, every warning, nothing from elsewhere, and no ensemble that breaks it."""

import base64
import csv
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from report_runs import EXACT, card_of, charges, rng_of, write, write_everything, write_flow

from lattice_flows.card.card import Card
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.estimates.analysis import analyse_run
from lattice_flows.estimates.replicas import Replicas
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.report import terminal_tables, write_report
from lattice_flows.report.charge_figures import charge_plots
from lattice_flows.report.summary_lookups import label_of
from lattice_flows.terminal import numbers


@dataclass
class Page(HTMLParser):
    """What a browser, or a screen reader, finds."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    listed: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)
    _rows: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("meta", "img"):
            return
        self._open.append(tag)
        self.texts.setdefault(tag, []).append("")
        if tag == "table":
            self._rows = []
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"
        if tag == "li" and "nav" not in self._open:
            self.listed.append(self.texts["li"][-1])
        if tag == "table":
            self.tables[self.texts["caption"][-1]] = self._rows

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            self.texts[tag][-1] += data
        if {"td", "th"} & set(self._open):
            self._rows[-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every such element."""
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: RunFolder) -> Page:
    page = Page()
    page.feed((folder.report / "index.html").read_text(encoding="utf-8"))
    assert page._open == [], "elements are left open"
    return page


def printed(text: str) -> str:
    """The text without the underscores that stand for subscripts."""
    return re.sub(r"([χτn])_(top|int|eff)", r"\1\2", text)


WITHIN = ("data:image/svg+xml;base64,", "data:text/csv;charset=utf-8;base64,", "#")


def report(folder: RunFolder, card: Card) -> tuple[dict, Page]:
    with analyse_run(folder, card) as analysis:
        write_report(folder, card, analysis, folder.report)
    return analysis.summary, page_of(folder)


FIGURES = {"pulls", "costs", "charge_history", "charge_distribution", "charge_autocorrelation", "theta_dependence",
           "fixed_charge", "weights", "training"}  # fmt: skip


@dataclass(frozen=True)
class Run:
    folder: RunFolder
    card: Card
    summary: dict
    page: Page


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a poor flow, one chain it feeds, a frozen, a slow and a fast sampler."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    card = write_everything(folder)
    return Run(folder, card, *report(folder, card))


def test_every_number_stands_in_its_table(run: Run):
    assert len(run.summary["ensembles"]) == 4
    sources = {**run.summary["ensembles"], "Fresh samples, reweighted": run.summary["flow"]}
    for name, figures in sources.items():
        (rows,) = [rows for caption, rows in run.page.tables.items() if caption.partition(" (")[0] == name]
        shown = {row[0]: row[1:] for row in rows}
        assert len(shown) == len(figures["observables"]) + 1 >= 4  # and the headings
        for name, row in figures["observables"].items():
            r_hat = "-" if row["r_hat"] is None else f"{row['r_hat']:.3f}"
            assert shown[printed(label_of(figures["observables"], name).page)] == [
                numbers.with_error(row["value"], row["error"]) + ("" if row["trusted"] else " !"),
                numbers.number(row["exact"], 6),
                numbers.pull(row["pull"]),
                numbers.with_error(row["tau_int"], row["tau_int_error"]),
                numbers.number(row["n_eff"]),
                r_hat,
            ]


def test_no_error_of_a_frozen_charge_is_trusted(run: Run):
    stuck = run.summary["ensembles"]["stuck"]
    assert stuck["frozen"]
    for name in ("topological_charge", "topological_charge_squared", "topological_susceptibility"):
        assert not stuck["observables"][name]["trusted"]
    (rows,) = [rows for caption, rows in run.page.tables.items() if caption.startswith("stuck (")]
    assert any(row[1].endswith(" !") for row in rows[1:])
    moving = run.summary["ensembles"]["direct"]["observables"]
    assert all(row["trusted"] for name, row in moving.items() if name != "topological_b2")  # which needs more


def test_samplers_are_sorted_by_cost_with_training_beside(run: Run):
    heading, *rows = run.page.tables["Cost of an independent configuration (Q²)"]
    ensembles = run.summary["ensembles"]
    moving = [name for name in ensembles if name != "stuck"]
    by_cost = sorted(moving, key=lambda name: ensembles[name]["seconds_per_independent_config"])
    assert [row[0] for row in rows] == [*by_cost, "stuck"]
    cells = {row[0]: dict(zip(heading, row)) for row in rows}
    for name in moving:
        cost = numbers.number(1000 * ensembles[name]["seconds_per_independent_config"])
        assert cells[name]["ms / indep. config"] == cost
        assert cells[name]["seconds"] == "1.25"
    assert cells["stuck"]["ms / indep. config"] == "> 2500"  # 1.25 s on 2 threads
    assert [cells[name]["training pays after"] for name in ("stuck", "hmc", "direct")] == ["-", "-", "-"]
    assert [cells[name]["training (s)"] for name in ("flow", "stuck", "hmc", "direct")] == ["345", "345", "-", "-"]
    assert cells["flow"]["chains × configs"] == "4 × 400"


def test_the_flow_and_its_unreliable_weights(run: Run):
    flow, proposals = run.summary["flow"], run.summary["ensembles"]["flow"]["proposals"]
    assert [flow["reliable"], proposals["reliable"]] == [False, False], "the planted weights are meant to be bad"
    _, fresh, chain = run.page.tables["Weights"]
    for row, figures in ((fresh, flow), (chain, proposals)):
        assert row[1:] == [
            str(figures["n_samples"]),
            f"at most {numbers.number(figures['ess'], 3)}",
            f"{numbers.number(figures['largest_weight_share'] * figures['n_samples'], 2)} × mean",
            f"{numbers.number(100 * figures['largest_weight_share'], 2)} %",
            f"{figures['pareto_k']:.2f}",
            f"at least {numbers.number(figures['log_z'], 4)}",
            numbers.number(EXACT.log_z, 8),
            "unreliable",
        ]
    (section,) = [text for text in run.page.texts["section"] if text.strip().startswith("The flow")]
    assert "Unreliable weights: fresh samples, proposals of flow." in section
    assert "321 parameters" in section
    assert "345 s" in section


def test_all_warnings_appear(run: Run):
    warnings = terminal_tables.warnings(run.summary)
    assert len(warnings) >= 4
    assert run.page.listed == warnings
    assert any("frozen" in text for text in warnings)


def test_says_how_it_was_made(run: Run):
    facts = dict(run.page.tables["Run"])
    assert facts["git commit"] == "c0ffee"
    assert facts["torch"] == "9.9"
    assert (facts["seed"], facts["threads"], facts["device"]) == ("7", "2", "cpu")
    assert run.page.texts["h1"] == ["2D U(1), 4 × 4, β = 1.5"]
    assert "Generated on 2031-05-06" in run.page.texts["p"]
    assert run.page.texts["pre"] == [run.card.text, "seed=7"]


def test_a_card_is_text_never_markup(run: Run):
    assert "<script>" in run.card.text
    assert run.page.named("script") == []


def test_needs_nothing_from_elsewhere(run: Run):
    for tag, attributes in run.page.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "data", "action", "srcset", "poster", "style"):
                assert (value or "").startswith(WITHIN), (tag, name)
    assert "url(" not in run.page.texts["style"][0]
    assert "@import" not in run.page.texts["style"][0]
    for attributes in run.page.named("img"):
        drawing = ET.fromstring(base64.b64decode((attributes["src"] or "").partition(",")[2]))
        for element in drawing.iter():
            links = [value for key, value in element.attrib.items() if key.endswith("href")]
            assert all(link.startswith("#") for link in links)
            assert not element.tag.endswith("}image")


def test_is_readable_by_all(run: Run):
    assert run.page.named("html") == [{"lang": "en"}]
    assert any(meta.get("name") == "viewport" for meta in run.page.named("meta"))
    levels = [int(tag[1]) for tag, _ in run.page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip([0, *levels], levels)), "a heading level is skipped"
    assert all(len(attributes["alt"] or "") > 20 for attributes in run.page.named("img"))
    figures = run.page.named("figure")
    assert len(figures) == len(run.page.named("img")) == len(run.page.texts["figcaption"]) == len(FIGURES)
    assert all(text.strip() for text in run.page.texts["figcaption"])
    assert len(run.page.texts["caption"]) == len(run.page.named("table")) == len(run.page.tables)
    assert all(attributes.get("scope") in ("row", "col") for attributes in run.page.named("th"))
    assert all(text.strip() for text in run.page.texts["th"])
    names = [attributes["id"] for _, attributes in run.page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    labels = [attributes["aria-labelledby"] for attributes in run.page.named("section")]
    assert set(labels) <= set(names)


def test_figures_are_files_too(run: Run):
    names = {(a["id"] or "").removeprefix("figure-") for a in run.page.named("figure")}
    assert names == FIGURES
    held = {path.name for path in run.folder.report.iterdir()}
    assert held == {"index.html", *(f"{name}.{suffix}" for name in names for suffix in ("svg", "pdf", "csv"))}
    assert all((run.folder.report / f"{name}.pdf").read_bytes().startswith(b"%PDF") for name in names)


def test_the_data_are_those_of_the_summary(run: Run):
    read = csv.DictReader((run.folder.report / "pulls.csv").read_text().splitlines())
    shown = {(row["ensemble"], row["observable"]): float(row["(value - exact) / error"]) for row in read}
    sources = {**run.summary["ensembles"], "fresh flow samples": run.summary["flow"]}
    assert shown == {
        (name, key): row["pull"]
        for name, source in sources.items()
        for key, row in source["observables"].items()
        if row["pull"] is not None
    }


def test_captions_say_what_is_left_out(run: Run):
    (caption,) = [text for text in run.page.texts["figcaption"] if text.startswith("Normalised autocorrelation")]
    assert "Not shown because frozen or weighted: stuck." in caption


def test_same_numbers_same_bytes_no_fields_no_global_state(run: Run, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise AssertionError("fields were read")

    monkeypatch.setattr(Ensemble, "configs", refuse)
    before = {path.name: path.read_bytes() for path in run.folder.report.iterdir()}
    style = dict(matplotlib.rcParams)
    with analyse_run(run.folder, run.card) as analysis:
        write_report(run.folder, run.card, analysis, run.folder.report)
    assert {path.name: path.read_bytes() for path in run.folder.report.iterdir()} == before
    assert dict(matplotlib.rcParams) == style


def test_a_place_that_cannot_be_written_is_named(run: Run, tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.report.write_text("a file where the folder should be")
    with (
        analyse_run(run.folder, run.card) as analysis,
        pytest.raises(InputError, match=r"report.*cannot be written"),
    ):
        write_report(folder, run.card, analysis, folder.report)


def _frozen_chain(folder: RunFolder, card: Card) -> None:
    write(folder.ensemble("a"), card, np.zeros((30, 1)), sampler="hmc")


def _no_charge(folder: RunFolder, card: Card) -> None:
    write(folder.ensemble("a"), card, charges("none", 100, 2), sampler="hmc", charged=False)


def _flow_alone(folder: RunFolder, card: Card) -> None:
    write_flow(folder, card, spread=0.3)


def _mixture(folder: RunFolder, card: Card) -> None:
    """One chain, too few configurations, few of them, not finished, weighted, weights of zero."""
    _no_charge(folder, card)
    write(folder.ensemble("b"), card, charges("b", 100, 1), sampler="direct")
    write(folder.ensemble("c"), card, charges("c", 2, 2), sampler="hmc")
    write(folder.ensemble("d"), card, charges("d", 5, 2), sampler="hmc")
    write(folder.ensemble("e"), card, charges("e", 60, 2), sampler="hmc", finish=False)
    log_w = 0.1 * rng_of("w").normal(size=(300, 2))
    write(folder.ensemble("f"), card, charges("f", 300, 2), sampler="flow_samples", log_w=log_w, proposals=log_w)
    log_w = np.where(np.arange(600).reshape(300, 2) % 3, log_w, -np.inf)
    write(folder.ensemble("g"), card, charges("g", 300, 2), sampler="flow_samples", log_w=log_w, proposals=log_w)


HARD = {
    _frozen_chain: {"charge_history", "charge_distribution", "pulls"},
    _no_charge: {"pulls"},
    _flow_alone: {"pulls", "weights", "training"},
    _mixture: {*FIGURES} - {"training"},
}


@pytest.mark.parametrize("make", HARD, ids=lambda make: make.__name__.strip("_"))
def test_nothing_breaks_it(make: Callable[[RunFolder, Card], None], tmp_path: Path):
    folder = RunFolder(tmp_path)
    others = {"b": "direct", "f": "flow_samples", "g": "flow_samples"} if make is _mixture else {}
    ensembles = {} if make is _flow_alone else dict.fromkeys("abcdefgh", "hmc") | others
    card = card_of(ensembles, flow=make in (_flow_alone, _mixture))
    make(folder, card)
    summary, page = report(folder, card)
    assert {(attributes["id"] or "").removeprefix("figure-") for attributes in page.named("figure")} == HARD[make]
    if warnings := terminal_tables.warnings(summary):
        assert sorted(page.listed) == sorted([*terminal_tables.weight_lines(summary), *warnings])
    else:
        assert "No warnings." in page.texts["p"]
    if make is _mixture:
        told = " ".join(" ".join(page.texts["p"]).split())
        assert "(the flow, a bias, other couplings) does not cover this sector well" in told
        assert "chosen by the expected, not the observed, numbers" in told
    states = {row[0]: row[1] for row in page.tables["Ensemble files"][1:]}
    assert states.pop("e", "unfinished") == "unfinished"
    assert set(states.values()) == {"finished"}


@pytest.mark.parametrize("weighted", [False, True])
def test_the_distribution_shows_frequencies_against_the_closed_form(weighted: bool, tmp_path: Path):
    card = card_of({"a": "hmc"})
    charge = charges("frequencies", 200, 2)
    log_w = 0.5 * rng_of("frequencies of weights").normal(size=(200, 2)) if weighted else None
    write(tmp_path / "a.h5", card, charge, sampler="hmc", log_w=log_w)
    w = np.ones((200, 2)) if log_w is None else np.exp(log_w)
    with Ensemble.open(tmp_path / "a.h5") as file:
        summary = {"ensembles": {"a": {"frozen": False, "observables": {}}}}
        plots = {plot.name: plot for plot in charge_plots([Replicas("a", (file,))], summary, EXACT)}
    (axes,) = plots["charge_distribution"].figure.axes
    bars, points = axes.containers
    shown = dict(zip(points[0].get_xdata(), points[0].get_ydata()))
    assert {-2.0, -1.0, 0.0, 1.0, 2.0} <= set(shown)
    for q, value in shown.items():
        assert value == pytest.approx(float(w[charge == q].sum() / w.sum()), abs=1e-12)
    closed_form = EXACT.charge_distribution((len(bars) - 1) // 2)
    assert [bar.get_height() for bar in bars] == pytest.approx(closed_form)
