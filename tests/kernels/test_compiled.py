"""Kernels kept on disk: what is compiled again, and what is not. Processes of a toy package use it as runs do."""

import ast
import os
import re
import shutil
from pathlib import Path

import numba
import pytest
from kernels.toy_package import CHAIN, PACKAGE, Toy, finished
from numba.core.caching import FunctionCache, NullCache

from lattice_flows.kernels import compiled, sources
from lattice_flows.kernels.compiled import KernelCache, kernel
from lattice_flows.kernels.sources import own_sources, sources_of

COMPILED, LOADED = [3.5, 0, 1], [3.5, 1, 0]


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


@pytest.fixture(scope="module")
def warm_home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("warm")
    assert Toy(home).run() == COMPILED
    return home


@pytest.fixture
def warm(warm_home: Path, tmp_path: Path) -> Toy:
    """Has compiled `chain` of a double, in a place of its own."""
    shutil.copytree(warm_home, tmp_path, dirs_exist_ok=True)
    return Toy(tmp_path)


def test_a_second_process_compiles_nothing(warm):
    assert warm.run() == LOADED


def test_an_edit_of_an_inner_function_in_another_file_is_seen(warm):
    assert warm.run() == LOADED
    warm.edit("kernels/motion.py", "1.0", "0.5")
    assert warm.run() == [2.0, 0, 1]
    warm.edit("kernels/motion.py", "0.5", "1.0")
    assert warm.run() == LOADED


def test_a_damaged_file_is_compiled_again_and_mended(warm):
    (file,) = warm.files()
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        assert warm.run() == COMPILED
    assert warm.run() == LOADED


def test_what_cannot_be_saved_is_compiled_all_the_same(toy):
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    assert toy.run(f"{full}\n{CHAIN}") == COMPILED
    assert list(toy.home.rglob("*.nb*")) == list(toy.home.rglob("*.tmp")) == []


PYCACHES = ("lattice_flows/exact/__pycache__", "lattice_flows/theories/toy/kernels/__pycache__")


def test_where_numba_can_write_nowhere_kernels_are_kept_in_a_place_of_their_own(toy):
    """An installation and a home that are read-only."""
    for name in ("caches", *PYCACHES):
        (toy.home / name).touch()
    assert toy.run() == COMPILED
    assert toy.run() == LOADED
    (file,) = toy.files()
    place = file.parent.parent
    assert place == toy.home / "temporary" / f"lattice_flows-kernels-{os.getuid()}"
    shutil.rmtree(place)
    place.touch()
    assert toy.run() == COMPILED
    assert toy.files() == []


def test_a_folder_that_others_can_write_is_none(toy):
    """Whatever they put into it would run."""
    given = toy.home / "given"
    given.mkdir()
    assert toy.run(NUMBA_CACHE_DIR=given) == COMPILED
    assert toy.run(NUMBA_CACHE_DIR=given) == LOADED
    (file,) = toy.files()
    for open_to_all in (given, file.parent):
        mode = open_to_all.stat().st_mode
        open_to_all.chmod(0o777)
        assert toy.run(NUMBA_CACHE_DIR=given) == COMPILED
        (elsewhere,) = {*toy.files()} - {file}
        assert elsewhere.parent.parent == toy.home / "caches" / "lattice_flows" / "kernels"
        shutil.rmtree(toy.home / "caches")
        open_to_all.chmod(mode)
    assert toy.run(NUMBA_CACHE_DIR=given) == LOADED


def test_a_group_that_shares_all_new_files_shares_no_kernels(toy):
    """umask 002, as where every user has a group."""
    for counts in (COMPILED, LOADED):
        assert toy.run(before="import os; os.umask(0o002)\n") == counts
    (file,) = toy.files()
    assert [path.stat().st_mode & 0o777 for path in (file.parent, file)] == [0o700, 0o600]


def test_kernels_are_compiled_without_a_home(toy):
    for name in PYCACHES:
        (toy.home / name).touch()
    assert toy.run(HOME="/dev/null", XDG_CACHE_HOME="relative", NUMBA_CACHE_DIR="/dev/null/x") == COMPILED


PARALLEL = """
import numba
import numpy as np
from lattice_flows.kernels.compiled import kernel

@kernel(parallel=True)
def total(x):
    for i in numba.prange(x.shape[0]):
        x[i] += 1
    return x.sum()
"""


def test_a_threading_layer_that_is_missing_is_replaced(toy):
    (toy.package / "exact" / "total.py").write_text(PARALLEL)
    code = "import numba; from lattice_flows.exact.total import total\n"
    code += "print(json.dumps([total(np.zeros(3)), numba.config.THREADING_LAYER]))"
    for _ in ("compiled", "loaded"):
        assert toy.run(code, NUMBA_THREADING_LAYER="unknown") == [3.0, "default"]


TOGETHER = """
kinds = [np.float64, np.float32, np.int64]
turn = int(os.environ["TURN"])
Path(f"ready.{turn}").touch()
while not os.path.exists("go"):
    time.sleep(0.001)
for kind in kinds[turn:] + kinds[:turn]:
    chain(kind(1))
"""
ALL = "[chain(kind(1)) for kind in (np.float64, np.float32, np.int64)]; print(json.dumps(counts(chain)))"


def test_processes_that_compile_at_once_lose_nothing(toy):
    processes = [toy.start(TOGETHER, TURN=turn) for turn in range(3)]
    while not all((toy.home / f"ready.{turn}").exists() for turn in range(3)):
        assert all(process.poll() is None for process in processes)
    (toy.home / "go").touch()
    for process in processes:
        finished(process)
    assert toy.run(ALL) == [3, 0]


def test_processors_share_a_folder_and_no_file(warm):
    assert warm.run(NUMBA_CPU_NAME="generic") == COMPILED
    assert warm.run(NUMBA_CPU_NAME="generic") == LOADED
    assert warm.run() == LOADED
    assert len(warm.files()) == 2


def test_the_place_is_numbas(toy):
    paths = "print(json.dumps([chain.stats.cache_path, sample.stats.cache_path]))"
    here, there = (list(map(Path, toy.run(paths, **v))) for v in ({}, {"NUMBA_CACHE_DIR": toy.home / "given"}))
    assert [path.parent.parent for path in here] == [toy.package / "theories/toy/kernels", toy.package / "exact"]
    assert {path.parent.parent for path in there} == {toy.home / "given"}
    assert len({path.parent for path in there}) == 2
    assert len({path.name for path in here + there}) == 1


def test_without_the_compiler_a_kernel_says_so(toy):
    code = "from lattice_flows.kernels.compiled import NoCompilerError\ntry:\n    chain(0.5)\n"
    code += "except NoCompilerError as error:\n    print(json.dumps(str(error)))"
    assert toy.run(code, NUMBA_DISABLE_JIT=1) == (
        "NUMBA_DISABLE_JIT is set, and lattice_flows.theories.toy.kernels.hmc.chain needs numba's compiler; unset it"
    )


def test_settings_of_the_compiler_share_no_file(warm):
    assert warm.run(NUMBA_BOUNDSCHECK=1) == COMPILED
    assert warm.run(NUMBA_BOUNDSCHECK=1) == LOADED
    assert warm.run() == LOADED


EDITED = """
from lattice_flows.kernels import motion
file = Path(motion.__file__)
text = file.read_text()
file.write_text(text.replace("1.0", "0.5"))
"""


def test_a_file_that_is_edited_after_its_import_is_not_kept_under_any_digest(toy):
    assert toy.run(EDITED + CHAIN) == COMPILED
    assert toy.files() == []
    assert toy.run() == [2.0, 0, 1]
    assert toy.run(EDITED.replace('"1.0", "0.5"', '"0.5", "1.0"') + CHAIN) == [2.0, 0, 1]
    assert toy.run() == COMPILED


def test_a_file_that_is_edited_before_its_import_and_back_is_not_kept(toy):
    """Its digest is that of what was there when the process began, and when the code is compiled."""
    code = """
import os
from pathlib import Path
import lattice_flows.kernels.compiled
file = Path("lattice_flows/kernels/motion.py")
text = file.read_text()
status = file.stat()
file.write_text(text.replace("1.0", "0.5"))
import lattice_flows.kernels.motion
file.write_text(text)
os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
"""
    assert toy.run(CHAIN, before=code) == [2.0, 0, 1]
    assert toy.files() == []
    assert toy.run() == COMPILED


def test_sources_are_what_may_be_compiled(toy):
    unused = toy.package / "workflows"
    unused.mkdir()
    (unused / "measure.py").write_text("from lattice_flows.kernels.motion import drift\n")
    (unused / "compute.py").write_text("    import numba\n")
    (toy.package / "kernels/.#motion.py").symlink_to("nowhere")  # as an editor makes it
    (toy.package / "kernels/__pycache__").mkdir()
    (toy.package / "kernels/__pycache__/old.py").write_text("import numba\n")
    names = {source.name.removeprefix("lattice_flows/") for source in own_sources(toy.package)}
    assert names == {
        "exact/direct.py",
        "kernels/__init__.py",
        "kernels/cache_folder.py",
        "kernels/compiled.py",
        "kernels/motion.py",
        "kernels/private_folders.py",
        "kernels/sources.py",
        "kernels/threads.py",
        "theories/toy/kernels/hmc.py",
        "workflows/compute.py",
    }


def test_kernels_of_this_package_use_only_its_sources():
    """What they import is compiled into them, and must count."""
    sources = {source.name: source for source in own_sources(PACKAGE)}
    kernels = [s for s in sources.values() if "kernels" in s.name.split("/") or b"import kernel" in s.content]
    assert len(kernels) > 25
    for source in kernels:
        for node in ast.walk(ast.parse(source.content)):
            name = node.module if isinstance(node, ast.ImportFrom) else None
            if name and name.startswith("lattice_flows."):
                parts = name.replace(".", "/")
                used = [f"{parts}/{alias.name}.py" for alias in node.names] + [f"{parts}.py", f"{parts}/__init__.py"]
                assert any(one in sources for one in used), f"{source.name} imports {name}"


def test_every_source_and_version_counts(toy, monkeypatch):
    seen = []

    def look() -> None:
        monkeypatch.setattr(sources, "PACKAGE", toy.package)
        own_sources.cache_clear()
        seen.append(compiled.digest(sources_of.__wrapped__(frozenset())))

    look()
    for name in ("kernels/motion.py", "theories/toy/kernels/hmc.py", "exact/direct.py"):
        toy.edit(name, "x", "y")
        look()
    (toy.package / "exact/direct.py").rename(toy.package / "exact/other.py")
    look()
    for place in range(len(compiled.VERSIONS)):
        versions = [*compiled.VERSIONS]
        versions[place] += "x"
        monkeypatch.setattr(compiled, "VERSIONS", tuple(versions))
        look()
    for name in compiled.SETTINGS:
        monkeypatch.setattr(numba.config, name, "another")
        look()
    assert len(set(seen)) == len(seen) == 16
    look()
    assert seen[-1] == seen[-2]


def test_numbas_own_cache_is_not_used():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"\bcache\s*=\s*True", path.read_text()), f"{path}: decorate with `kernel`"


def twice(x):
    return 2 * x


def test_a_kernel_is_numbas_own_dispatcher():
    plain = numba.njit(twice, fastmath=True)
    for made in (kernel(fastmath=True)(twice), kernel(twice, fastmath=True)):
        assert type(made) is type(plain)
        assert (made.targetoptions, made.py_func) == (plain.targetoptions, twice)
        assert type(made._cache) is KernelCache


def test_functions_of_others_keep_numbas_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    kernel(twice)
    theirs = numba.njit(twice, cache=True)
    assert theirs(2.0) == 4.0
    assert type(theirs._cache) is FunctionCache
    assert [path.suffix for path in sorted(tmp_path.glob("*/*.nb?"))] == [".nbc", ".nbi"]


def test_the_private_names_of_numba_are_what_they_were(monkeypatch, tmp_path):
    """Where this fails after an update of numba, see what has become of them in numba/core/caching.py."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert isinstance(numba.njit(twice)._cache, NullCache)
    cache = numba.njit(twice, cache=True)._cache
    assert isinstance(cache, FunctionCache)
    assert {"_impl", "_name", "_cache_path", "_cache_file"} <= vars(cache).keys()
    assert cache._cache_path == cache._impl.locator.get_cache_path()
    assert cache._impl.filename_base.startswith("test_compiled.twice-")
    kept = KernelCache(twice, frozenset(), parallel=False)
    assert kept.cache_path is not None  # opens the file
    asked = []
    monkeypatch.setattr(type(kept._cache_file), "load", lambda self, key: asked.append(key))
    monkeypatch.setattr(type(kept._cache_file), "save", lambda self, key, data: asked.append(key))
    made = numba.njit(twice)
    made._cache = kept
    assert made(2.0) == 4.0
    loaded, saved = asked
    assert loaded == saved  # the types of the arguments, then the processor: triple, name, features
    assert loaded[0] == (numba.float64,)
    assert loaded[1] == made.overloads[(numba.float64,)].codegen.magic_tuple()
    assert len(loaded[1]) == 3
    assert all(isinstance(text, str) and text for text in loaded[1])
