"""Golden data are copied before anything touches them."""

import shutil
from pathlib import Path

import pytest
from golden.files import GOLDEN


@pytest.fixture(autouse=True)
def _in_a_folder_with_the_imported_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards name them; and a network's chains go on with one thread only, as they began."""
    for path in GOLDEN.glob("*.*"):
        shutil.copyfile(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
