"""Kernels kept on disk: what is compiled again, and what is not. Processes of a toy package use it as runs do."""

import re
import shutil
from pathlib import Path

import numba
import pytest
from kernels.toy_package import CHAIN, PACKAGE, Toy, finished
from numba.core.caching import FunctionCache, NullCache

from lattice_flows.kernels import compiled
from lattice_flows.kernels.compiled import KernelCache, kernel

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


@pytest.mark.parametrize(
    "fault",
    ["import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))", "Path(chain.stats.cache_path).touch()"],
    ids=["full disk", "no folder"],
)
def test_what_cannot_be_saved_is_compiled_all_the_same(toy, fault):
    assert toy.run(f"{fault}\n{CHAIN}") == COMPILED
    assert list(toy.home.rglob("*.nb*")) == list(toy.home.rglob("*.tmp")) == []


def test_without_any_place_to_write_to_kernels_are_compiled_all_the_same(toy):
    for name in ("caches", "lattice_flows/exact/__pycache__", "lattice_flows/theories/toy/kernels/__pycache__"):
        (toy.home / name).touch()
    assert toy.run("print(json.dumps([chain(0.5), chain.stats.cache_path]))") == [3.5, None]


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


def test_without_the_compiler_a_kernel_is_its_function(toy):
    assert toy.run("print(json.dumps([chain(0.5), type(chain).__name__]))", NUMBA_DISABLE_JIT=1) == [3.5, "function"]


def test_sources_are_what_may_be_compiled(toy):
    unused = toy.package / "workflows"
    unused.mkdir()
    (unused / "measure.py").write_text("from lattice_flows.kernels.motion import drift\n")
    (unused / "compute.py").write_text("    import numba\n")
    (toy.package / "kernels/.#motion.py").symlink_to("nowhere")  # as an editor makes it
    (toy.package / "kernels/__pycache__").mkdir()
    (toy.package / "kernels/__pycache__/old.py").write_text("import numba\n")
    names = [name for name, text in compiled.sources(toy.package) if text]
    assert sorted(name.removeprefix("./") for name in names) == [
        "exact/direct.py",
        "kernels/cache_folder.py",
        "kernels/compiled.py",
        "kernels/motion.py",
        "theories/toy/kernels/hmc.py",
        "workflows/compute.py",
    ]


def test_every_source_and_version_counts(toy, monkeypatch):
    seen = []

    def look() -> None:
        seen.append(compiled.digest.__wrapped__(toy.package))

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
    assert len(set(seen)) == len(seen) == 10
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
    assert {"_impl", "_cache_path", "_cache_file"} <= vars(cache).keys()
    assert cache._cache_path == cache._impl.locator.get_cache_path()
    assert cache._impl.filename_base.startswith("test_compiled.twice-")
    kept = KernelCache(twice)
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
