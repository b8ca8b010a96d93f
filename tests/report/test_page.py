"""The report in a browser on a phone without a network: what it shows, and what its reader can reach.

A headless Chromium loads the page in a frame of 390 pixels; a script around it, not in it, tells what is there.
"""

import html
import json
import shutil
import subprocess
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from report_runs import write_everything

from lattice_flows.estimates.analysis import analyse_run
from lattice_flows.production.run_folder import RunFolder
from lattice_flows.report import write_report

PHONE = 390  # pixels
CONTRAST = 4.5  # of text, WCAG 2.2 level AA
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9", "--disable-background-networking")
QUIET = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--virtual-time-budget=20000")

LOOK = """
const all = (root, what) => [...root.querySelectorAll(what)];
const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
const luminance = colour => numbers(colour).slice(0, 3)
  .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * c, 0);
function behind(view, node) {
  for (; node; node = node.parentElement) {
    const colour = view.getComputedStyle(node).backgroundColor;
    if ((numbers(colour)[3] ?? 1) > 0) return colour;
  }
  return "rgb(255, 255, 255)";
}
function contrast(view, node) {
  const pair = [view.getComputedStyle(node).color, behind(view, node)].map(luminance);
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}
async function look(frame) {
  const page = frame.contentDocument, view = frame.contentWindow;
  const images = all(page, "img");
  await Promise.allSettled(images.map(image => image.decode()));
  const folded = all(page, "details");
  const unfolded = folded.filter(one => one.querySelector("tr").checkVisibility()).length;
  folded.forEach(one => { one.open = true; });
  const texts = all(page.body, "*").filter(node => [...node.childNodes].some(c => c.nodeType === 3 && c.data.trim()));
  const files = {};
  for (const link of all(page, "a[download]")) files[link.download] = await (await fetch(link.href)).text();
  return {
    title: page.title,
    language: page.documentElement.lang,
    width: page.scrollingElement.scrollWidth,
    images: images.map(image => ({alt: image.getAttribute("alt"), width: image.naturalWidth})),
    tables: all(page, "table").map(table => ({
      caption: table.caption && table.caption.textContent,
      unscoped: all(table, "th:not([scope])").length,
      unreachable: !table.closest("[tabindex='0']"),
    })),
    levels: all(page, "h1, h2, h3, h4, h5, h6").map(heading => Number(heading.tagName[1])),
    links: all(page, "[src], [href]").map(node => node.getAttribute("src") || node.getAttribute("href")),
    targets: all(page, "a[href^='#']").filter(a => !page.getElementById(a.getAttribute("href").slice(1))).length,
    scripts: all(page, "script").length,
    requests: view.performance.getEntriesByType("resource").filter(one => !one.name.startsWith("data:")).length,
    folded: folded.map(one => all(one, "tbody tr").filter(row => row.checkVisibility()).length),
    unfolded: unfolded,
    pale: texts.filter(node => contrast(view, node) < CONTRAST).map(node => node.tagName + ": " + node.textContent),
    files: files,
  };
}
addEventListener("load", async () => {
  const found = await look(document.querySelector("iframe")).catch(error => ({error: String(error)}));
  document.body.textContent = "<<" + JSON.stringify(found) + ">>";
});
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser; nothing is installed for it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no browser to look at the report with: none of {', '.join(names)} is installed")
    return found


@dataclass(frozen=True)
class Run:
    folder: RunFolder
    summary: dict[str, Any]

    @property
    def page(self) -> str:
        return (self.folder.report / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with every section and every figure of U(1)."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    card = write_everything(folder)
    with analyse_run(folder, card) as analysis:
        write_report(folder, card, analysis, folder.report)
    return Run(folder, analysis.summary)


def seen(chromium: str, page: str, place: Path) -> dict[str, Any]:
    """What a phone of the page's reader shows."""
    frame = f'<iframe srcdoc="{html.escape(page)}" style="width:{PHONE}px;height:844px;border:0"></iframe>'
    around = place / "around.html"
    script = LOOK.replace("CONTRAST", str(CONTRAST))
    around.write_text(f"<!DOCTYPE html><meta charset=utf-8><script>{script}</script><body>{frame}</body>", "utf-8")
    command = [chromium, *QUIET, *OFFLINE, f"--user-data-dir={place / 'profile'}", "--dump-dom", around.as_uri()]
    told = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()
    found = json.loads(html.unescape(told[told.index("&lt;&lt;") + 8 : told.rindex("&gt;&gt;")]))
    assert "error" not in found, found["error"]
    return found


def faults(found: dict[str, Any]) -> set[str]:
    """What is wrong with the page, in words."""
    levels = [0, *found["levels"]]
    checks = {
        "no title or no language": not found["title"] or found["language"] != "en",
        "wider than the screen": found["width"] > PHONE,
        "an image is broken": any(image["width"] == 0 for image in found["images"]),
        "an image without words": any(not image["alt"] for image in found["images"]),
        "a table without a caption": any(not table["caption"] for table in found["tables"]),
        "a heading cell without scope": any(table["unscoped"] for table in found["tables"]),
        "a table out of the keyboard's reach": any(table["unreachable"] for table in found["tables"]),
        "a heading level is skipped": any(after - before > 1 for before, after in pairwise(levels)),
        "not one main heading": levels.count(1) != 1,
        "points elsewhere": any(not link.startswith(("data:", "#")) for link in found["links"]),
        "a link to nothing": found["targets"] > 0,
        "asks the network": found["requests"] > 0,
        "runs a script": found["scripts"] > 0,
        "data that do not unfold": not all(found["folded"]) or found["unfolded"] > 0,
        "text too pale": bool(found["pale"]),
    }
    return {fault for fault, is_there in checks.items() if is_there}


def test_a_phone_without_network_shows_it_whole(chromium: str, run: Run, tmp_path: Path):
    found = seen(chromium, run.page, tmp_path)
    assert faults(found) == set(), found["pale"]
    names = {path.stem for path in run.folder.report.glob("*.svg")}
    assert len(found["images"]) == len(names) >= 8
    assert len(found["folded"]) >= len(names)
    written = {path.name: path.read_bytes().decode() for path in run.folder.report.glob("*.csv")}
    assert found["files"] == written
    assert set(written) == {f"{name}.csv" for name in names}


EMPTY = "<table><caption>nothing</caption><thead><tr></tr></thead></table>"
PLANTED = {
    "wider than the screen": ("<p class=", '<div style="width:500px">1</div><p class='),
    "an image without words": (" alt=", " title="),
    "an image is broken": ("data:image/svg+xml;base64,", "data:image/svg+xml;base64,AAAA"),
    "a table without a caption": ("<caption>", "<caption hidden></caption><caption hidden>"),
    "a heading cell without scope": (' scope="row"', ""),
    "a table out of the keyboard's reach": ('role="region" tabindex="0"', 'role="region"'),
    "a heading level is skipped": ("<h2", "<h4>deep</h4><h2"),
    "points elsewhere": ('href="#samplers"', 'href="https://lattice.invalid/"'),
    "a link to nothing": ('href="#figures"', 'href="#nowhere"'),
    "asks the network": ("</main>", "<style>@import url(http://lattice.invalid/a.css);</style></main>"),
    "runs a script": ("</main>", "<script>1</script></main>"),
    "data that do not unfold": ("</main>", f"<details tabindex=0>{EMPTY}</details></main>"),
    "text too pale": ('<p class="date"', '<p style="color:#888"'),
}


def test_what_is_planted_is_found(chromium: str, run: Run, tmp_path: Path):
    page = run.page
    for good, bad in PLANTED.values():
        assert good in page
        page = page.replace(good, bad, 1)
    assert faults(seen(chromium, page, tmp_path)) == set(PLANTED)
