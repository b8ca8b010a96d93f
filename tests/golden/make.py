"""Makes the golden data: run folders and files of today's code, which all later code must read and continue.

    python tests/golden/make.py

Each card of tests/golden/cards becomes the run folder tests/data/golden/runs/NAME; bits/NAME.json beside it is what an
uninterrupted run of the card holds, and summaries/NAME.json what `analyse` says of it. What is there is never made
again, for it stands for the code that wrote it: run this only to ADD a card, at a commit without changes, and add a
line to tests/data/golden/README.md.
"""

import json
import os
import platform
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from command import command, done
from files import EVALUATED, GOLDEN, analysed, described, ensemble_paths, extension, made_by, sha256_of

# The one internal name: it tells a run to stop at a place of our choice.
from lattice_flows.terminal.interrupt import StopRequest

CARDS = Path(__file__).parent / "cards"


def stopped_at(n_looks: int, *arguments: object) -> None:
    """Call it, and ask it to stop at its n-th look at the stop request."""
    looks = 0

    def look(request: StopRequest) -> bool:
        nonlocal looks
        looks += 1
        if looks >= n_looks:
            request.signal = "SIGTERM"
        return request.signal is not None

    original = StopRequest.__call__
    StopRequest.__call__ = look
    try:
        status, said = command(*arguments)
        assert status == 75, said
    finally:
        StopRequest.__call__ = original


def plain(card: Path, folder: Path) -> None:
    """Trained, if there is a flow, and sampled."""
    if "flow" in tomllib.loads(card.read_text()):
        done("train", card, "--out", folder)
    done("sample", card, "--out", folder)


def interrupted(card: Path, folder: Path) -> None:
    """Stopped once in the ten steps of the thermalisation, and then in the production, twice."""
    done("train", card, "--out", folder, "--set", "ensemble.growing.n_configs=20")
    done("sample", folder, "--ensemble", "growing")
    stopped_at(5, "sample", folder, "--ensemble", "growing", "--set", "ensemble.growing.n_configs=28")
    stopped_at(4, "sample", folder, "--ensemble", "thermalising")
    for name in ("hmc", "metadynamics", "nested", "flow", "flow_hmc"):
        for n_looks in (7, 9, 5):
            stopped_at(n_looks, "sample", folder, "--ensemble", name)


def half_trained(card: Path, folder: Path) -> None:
    stopped_at(6, "train", card, "--out", folder)


def array(card: Path, folder: Path) -> None:
    for task in ("0/3", "1/3"):
        done("sample", card, "--out", folder, "--task", task)
    stopped_at(14, "sample", card, "--out", folder, "--task", "2/3")


def measured(card: Path, folder: Path) -> None:
    plain(card, folder)
    added = ("wilson_loop r=2 t=3", "plaquette flow_time=0.5", "polyakov_loop mu=1 every=4")
    done("measure", folder / "ensembles" / "heatbath.h5", *added)


UNFINISHED: dict[str, Callable[[Path, Path], None]] = {
    "interrupted": interrupted,
    "training": half_trained,
    "array": array,
}


def imported() -> None:
    """Angles as another code might have made them, some outside [-pi, pi), and the ensemble file of them."""
    np.save("links.npy", np.random.default_rng(5).normal(0.0, 1.5, (6, 2, 2, 4, 4)))
    done("import", "links.npy", "--out", "imported.h5", "--coupling", "beta=1.5")


def wells() -> None:
    """Configurations of both wells, from which a flow learns, and the ensemble file of them."""
    rng = np.random.default_rng(6)
    centres = np.where(np.arange(128) % 2 == 0, -1.7, 1.75)[:, None] * np.array([1.0, 0.0])
    np.save("wells.npy", (centres + rng.normal(0.0, 0.15, (128, 2))).reshape(32, 4, 2))  # (config, chain, coordinate)
    done("import", "wells.npy", "--out", "wells.h5", "--theory", "double_well")


def make(card: Path, folder: Path) -> None:
    """The run folder, without what no resume and no analysis needs."""
    made = {**UNFINISHED, "measured": measured}.get(card.stem, plain)
    made(card, folder)
    if card.stem != EVALUATED:  # a megabyte, which is made again where it is missing
        (folder / "flow" / "evaluation.h5").unlink(missing_ok=True)
    for lock in folder.rglob("*.lock"):
        lock.unlink()


def analyse(folder: Path, summary: Path) -> None:
    """Write the numbers of a run, where they are not there yet."""
    if (sources := analysed(folder)) and not summary.exists():
        done("analyse", *sources, "--json", summary)
        shutil.rmtree(folder / "report", ignore_errors=True)


def reference(card: Path, folder: Path) -> dict[str, Any]:
    """What an uninterrupted run of the card holds, and the finished files of the folder once they are extended."""
    table: dict[str, Any] = {"made_by": made_by()}
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        plain(card, run)
        if (checkpoint := run / "flow" / "checkpoint.pt").exists():
            table["flow_sha256"] = done("info", checkpoint).split()[-1]
        table["ensembles"] = {path.stem: described(path) for path in ensemble_paths(run)}
        if card.stem not in UNFINISHED:
            longer = shutil.copytree(folder, Path(scratch) / "longer")
            done("sample", longer, *extension(longer))
            table["longer"] = {path.stem: sha256_of(path) for path in ensemble_paths(longer)}
    return table


def add(card: Path, folder: Path) -> None:
    """Make the card's run in this folder, then put what belongs to it into its places."""
    make(card, folder)
    table = reference(card, folder)
    Path("bits", f"{card.stem}.json").write_text(json.dumps(table, indent=1) + "\n")
    shutil.move(folder, Path("runs", card.stem))


def main_() -> None:
    for name in ("runs", "bits", "summaries"):
        (GOLDEN / name).mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    platform.node = lambda: "golden"  # the files name no machine
    os.chdir(GOLDEN)  # files that a card names are looked for here
    if not Path("imported.h5").exists():
        imported()
        done("analyse", "imported.h5", "--json", Path("summaries", "imported.json"))
    if not Path("wells.h5").exists():
        wells()
    for card in sorted(CARDS.glob("*.toml")):
        if Path("runs", card.stem).exists():
            print(f"{card.stem}: is there already")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            add(card, Path(scratch) / card.stem)
        print(f"{card.stem}: made")
    for folder in sorted(Path("runs").iterdir()):
        analyse(folder, Path("summaries", f"{folder.name}.json"))


if __name__ == "__main__":
    main_()
