"""Where the golden data are, and what no later code may change of them: datasets, their checksums and first values."""

import hashlib
import json
import platform
import re
import shutil
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
NAMES = sorted(path.stem for path in (GOLDEN / "bits").glob("*.json"))  # of the runs, and of their cards
EVALUATED = "multiscale"  # the run that keeps the samples of its flow, a megabyte, and is analysed as a whole
ANALYSED = {  # of the runs of many ensembles those that `analyse` treats in ways of their own; figures are slow
    "u1": ("exchange", "hmc_given", "metadynamics", "tempering", "umbrella", "umbrella_given"),
    "phi4": ("cluster", "flow", "hmc", "tempering"),
    "interrupted": ("growing", "hmc"),
}
MOLECULAR = "hmc|winding_hmc|metadynamics|umbrella|flow_hmc"  # samplers of which every trajectory was equally long
FORMER = {"jitter": "jitter = 0.0", "trajectory_length": "trajectory_length = 1.0"}
FORMER_FORCE = {"force": 'force = "total"'}
FORMER_HYBRID = {
    "batch_size": "batch_size = 64",
    "learning_rate": "learning_rate = 0.008",
    "adam_beta2": "adam_beta2 = 0.999",
    "clip_norm": "clip_norm = 10.0",
    "ema_decay": "ema_decay = 0.99",
}
LONGER = 3  # configurations by which finished runs are extended
N_FIRST = 6  # values of each dataset, for machines where bits cannot be compared

Contents = dict[str, np.ndarray]


def table_of(name: str) -> dict[str, Any]:
    """What an uninterrupted run of this card held when the golden data were made."""
    return json.loads((GOLDEN / "bits" / f"{name}.json").read_text())


def copied(name: str, *without: str) -> Path:
    """The golden run of this name, copied into the current folder, but for what these patterns match."""
    source, ignored = GOLDEN / "runs" / name, shutil.ignore_patterns(*without)
    return shutil.copytree(source, Path(name), ignore=ignored, copy_function=shutil.copyfile)


def with_former_defaults(card: Path) -> None:
    """Write the defaults that have changed since into the card: what it says by its silence must stay what it was."""

    def completed(found: re.Match[str]) -> str:
        """The table of a sampler, or its inline table, with the defaults that it lacks."""
        sampler, rest = found.groups()
        separator = ", " if sampler.startswith("{") else "\n"
        former = FORMER | (FORMER_FORCE if "flow_hmc" in sampler else {})
        missing = [line for key, line in former.items() if not re.search(rf"\b{key} =", rest)]
        return separator.join([sampler, *missing]) + rest

    own = re.sub(rf'(?ms)^(sampler = "(?:{MOLECULAR})")(.*?)(?=^\[|\Z)', completed, card.read_text())
    text = re.sub(rf'(\{{sampler = "(?:{MOLECULAR})")([^}}]*)', completed, own)
    if 'name = "hybrid"' in text:
        missing = [line for key, line in FORMER_HYBRID.items() if f"\n{key} =" not in text]
        text = text.replace("[training]", "\n".join(["[training]", *missing]))
    annealed = text if "anneal_from" in text else text.replace("[training]", '[training]\nanneal_from = "flat"')
    card.write_text(annealed)


def extension(folder: Path) -> list[str]:
    """The options that extend every ensemble of a run."""
    tables = tomllib.loads((folder / "card.toml").read_text())["ensemble"]
    longer = [f"ensemble.{table['name']}.n_configs={table['n_configs'] + LONGER}" for table in tables]
    return [word for setting in longer for word in ("--set", setting)]


def contents(path: Path) -> Contents:
    """Every dataset of /fields, /series, /proposals and /state of a finished ensemble file, without the axes."""
    found: Contents = {}

    def collect(name: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset) and "/" in name and not name.startswith("state/length_"):
            found[name] = node[()]

    with h5py.File(path, "r") as file:
        file.visititems(collect)
    return found


def rows(path: Path) -> Contents:
    """The same without /state, which an extension replaces: what it must keep at the beginning."""
    return {name: values for name, values in contents(path).items() if not name.startswith("state/")}


def sha256(arrays: Contents) -> str:
    """Over the name, type, shape and bytes of each."""
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """Of all contents of a file."""
    return sha256(contents(path))


def described(path: Path) -> dict[str, Any]:
    """The datasets of an ensemble file one by one, ready for JSON, and its /state as a whole."""
    found = contents(path)
    table: dict[str, Any] = {
        name: {
            "dtype": values.dtype.name,
            "shape": list(values.shape),
            "sha256": sha256({name: values}),
            "first": [float(value) for value in values.ravel()[:N_FIRST]],
        }
        for name, values in rows(path).items()
    }
    table["state"] = {"sha256": sha256({name: found[name] for name in found if name.startswith("state/")})}
    return table


def ensemble_paths(folder: Path) -> list[Path]:
    """NAME.h5 of every ensemble of a run folder that is past its thermalisation, also where there are segments only."""
    paths = {path.with_suffix(".h5") for path in (folder / "ensembles").glob("*.*")}
    return sorted(path for path in paths if path.stem != "thermalising")


def analysed(folder: Path) -> list[Path]:
    """What of a golden run `analyse` is given."""
    if folder.name == EVALUATED:
        return [folder]
    paths = ensemble_paths(folder)
    return [path for path in paths if path.stem in ANALYSED.get(folder.name, path.stem)]


def made_by() -> dict[str, str]:
    """What bits depend on beside this package: the processor, and the libraries that compile and compute."""
    import torch
    from llvmlite.binding import get_host_cpu_name

    return {
        "cpu": get_host_cpu_name(),
        "torch_cpu": torch.backends.cpu.get_cpu_capability(),
        "libc": " ".join(platform.libc_ver()),
        **{name: version(name) for name in ("llvmlite", "numba", "numpy", "scipy", "torch")},
    }


def require_same_maker(table: dict[str, Any]) -> None:
    """Skip what follows where another processor or library computes: there `test_bits` compares first values."""
    here = made_by()
    if other := [f"{key} {value}, here {here[key]}" for key, value in table["made_by"].items() if value != here[key]]:
        pytest.skip(f"bits are those of {'; '.join(other)}")
