"""Kernels and theories of others: every file that decides what they compute counts, or nothing is kept."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from lattice_flows.kernels import hmc
from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.molecular_dynamics import action, drift

KERNEL = """
from numba import njit
from lattice_flows.kernels.compiled import kernel
{imports}

@kernel
def value(x):
    return inner(x) * FACTOR
"""
HELPERS = "from numba import njit\nFACTOR = 3.0\n\n@njit\ndef inner(x):\n    return x + 1.0\n"
COUPLINGS = "from typing import NamedTuple\n\nclass Two(NamedTuple):\n    a: float\n    b: float\n"
BODY = """
from lattice_flows.kernels.by_couplings import implements
from lattice_flows.kernels.molecular_dynamics import action

@implements(action, Two)
def _action(couplings, x, shape, work):
    return couplings.a * 10.0 + couplings.b
"""
USE = """
import numpy as np
from lattice_flows.kernels import hmc
from lattice_flows.kernels.by_couplings import compiled_for
value = compiled_for(hmc._actions, Two)
print(json.dumps([*hmc.action(Two(a=1.0, b=2.0), np.zeros((1, 3))), sum(value.stats.cache_hits.values())]))
"""


class Place:
    """Files of a user's own, and processes that begin there."""

    def __init__(self, home: Path) -> None:
        self.home, self.cache = home, home / "cache"

    def write(self, name: str, text: str) -> Path:
        path = self.home / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def process(self, *arguments: object, path: object = "") -> list[float]:
        """What python prints, as JSON."""
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(path or self.home), *sys.path]),
            "PYTHONDONTWRITEBYTECODE": "1",  # an edit of the same size within one second would not be seen
            "NUMBA_CACHE_DIR": str(self.cache),
        }
        command = [sys.executable, "-W", "error", *map(str, arguments)]
        done = subprocess.run(command, env=environment, cwd=self.home, capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    def value(self, module: str, before: str = "") -> list[float]:
        """Of the kernel for 1, and how often it was found on disk. before: code that runs before it is called."""
        code = f"import json\nimport {module} as m\n{before}\n"
        return self.process("-c", f"{code}print(json.dumps([m.value(1.0), sum(m.value.stats.cache_hits.values())]))")

    def kept(self) -> list[Path]:
        return list(self.cache.rglob("*.nbc"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("module", "helpers", "imports"),
    [
        ("springs", "constants.py", "from constants import FACTOR, inner"),
        ("mine.springs", "mine/constants.py", "from .constants import FACTOR, inner"),
        ("mine.springs", "others/constants.py", "from others import constants as c\nFACTOR, inner = c.FACTOR, c.inner"),
    ],
    ids=["a file beside", "its own package", "another package"],
)
def test_an_edit_of_a_file_that_a_kernel_imports_is_seen(place, module, helpers, imports):
    place.write("mine/__init__.py", "")
    place.write(f"{module.replace('.', '/')}.py", KERNEL.format(imports=imports))
    place.write("unrelated.py", "")
    for text, expected in (
        (HELPERS, 6.0),
        (HELPERS.replace("3.0", "5.0"), 10.0),
        (HELPERS.replace("1.0", "4.0"), 15.0),
    ):
        place.write(helpers, text)
        assert place.value(module) == [expected, 0]
    place.write("unrelated.py", "x = 1")
    assert place.value(module) == [15.0, 1]


def test_an_edit_after_the_import_is_kept_under_no_digest(place):
    place.write("constants.py", HELPERS)
    place.write("springs.py", KERNEL.format(imports="from constants import FACTOR, inner"))
    edited = HELPERS.replace("3.0", "5.0")
    edit = f"from pathlib import Path\nPath('constants.py').write_text({edited!r})"
    assert place.value("springs", edit) == [6.0, 0]
    assert place.kept() == []
    assert place.value("springs") == [10.0, 0]


def test_class_and_bodies_of_couplings_count_wherever_they_stand(place):
    def value(folder: str, couplings: str, body: str) -> list[float]:
        """In a process that finds no other modules of these names."""
        place.write(f"{folder}/coup.py", couplings)
        place.write(f"{folder}/bodies.py", f"from coup import Two\n{body}")
        return place.process("-c", f"import json, bodies\nfrom coup import Two\n{USE}", path=place.home / folder)

    swapped = COUPLINGS.replace("a: float\n    b:", "b: float\n    a:")
    assert value("one", COUPLINGS, BODY) == [12.0, 0]
    assert value("one", swapped, BODY) == [12.0, 0]
    assert value("one", swapped, BODY) == [12.0, 1]
    assert value("one", swapped, BODY.replace("10.0", "30.0")) == [32.0, 0]
    assert value("other", swapped, BODY) == [12.0, 1]


def test_what_stands_in_no_module_is_compiled_in_each_process(place):
    place.write("coup.py", COUPLINGS)
    archive = place.home / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("packed.py", f"from coup import Two\n{BODY}")
    notebook = f"exec(compile({BODY!r}, '/tmp/ipykernel_99/123.py', 'exec'))"
    for k in range(2):
        body = BODY.replace("10.0", f"{k + 1}0.0")
        script = place.write("script.py", f"import json\n{COUPLINGS}{body}{USE}")
        assert place.process(script) == [10.0 * (k + 1) + 2.0, 0]
    both = os.pathsep.join(map(str, (archive, place.home)))
    assert place.process("-c", f"import json, packed\nfrom coup import Two\n{USE}", path=both) == [12.0, 0]
    place.write("cells.py", f"from coup import Two\n{notebook}")
    assert place.process("-c", f"import json, cells\nfrom coup import Two\n{USE}") == [12.0, 0]
    assert [path for path in place.kept() if "_actions" in path.name] == []


class Half(NamedTuple):
    strength: float


def first(couplings, x, shape, work):
    return couplings.strength


def second(couplings, x, shape, work):
    return 2.0 * couplings.strength


def test_a_class_has_one_body_and_keeps_it():
    implements(action, Half)(first)
    with pytest.raises(ValueError, match=r"action of Half is first \(.*test_sources.py, line \d+\).* also be second"):
        implements(action, Half)(second)
    assert hmc.action(Half(2.0), np.zeros((1, 3))) == 2.0
    with pytest.raises(ValueError, match=r"drift of Half cannot become second .*: it was compiled with the default"):
        implements(drift, Half)(second)
