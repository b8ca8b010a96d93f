"""The lines of progress that a log gets."""

import io

import pytest
from rich.console import Console

from lattice_flows.terminal import progress

pytestmark = pytest.mark.quick


@pytest.fixture
def lines(monkeypatch):
    """What a meter prints of these updates, ten seconds apart."""

    def printed(total: float, unit: str, updates: list[tuple[float, float | None]], counted: str | None = None) -> str:
        clock = iter(range(0, 1000, 10))
        monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
        console = Console(file=io.StringIO())
        with progress.meter(console, "train", total, unit, counted) as meter:
            for done, count in updates:
                meter.update(done, "", count)
        return console.file.getvalue()

    return printed


def test_pace_is_of_what_is_counted(lines):
    assert lines(40, "s", [(0, 0), (10, 50), (20, 100)], "steps").splitlines()[1:] == [
        "train  10 of 40 s, 2.5 steps/s, 60 s to go",
        "train  20 of 40 s, 3.333 steps/s, 30 s to go",
    ]


def test_pace_is_of_the_work_itself(lines):
    told = lines(100, "configurations", [(0, None), (40, None), (100, None)]).splitlines()
    assert told[1:] == ["train  40 of 100 configurations, 2/s, 30 s to go", "train  100 of 100 configurations, 3.333/s"]
