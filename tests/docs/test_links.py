"""Every link of a page to a file of this repository leads to one, and to a heading that is there."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("runs/*/*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
SCRIPT = re.compile(r"`((?:runs|analysis|tests|docs)/[\w./-]+\.(?:py|md|toml|csv|svg|png))")
HEADING = re.compile(r"^#+ (.*)$|<a id=\"([\w-]+)\">", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What can stand after # in a link to the page."""
    found = HEADING.findall(page.read_text(encoding="utf-8"))
    return {own or re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading, own in found}


def faults(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    wrong = [name for name in SCRIPT.findall(text) if not (ROOT / name).exists()]
    for link in LINK.findall(text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert faults(page) == []


def test_a_wrong_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One thing\n[a](none.md) [b](page.md#one-thing) [c](#two) `runs/none/none.py`\n")
    assert faults(page) == ["runs/none/none.py", "none.md", "#two"]
