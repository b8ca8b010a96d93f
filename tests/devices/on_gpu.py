"""A prepared check of a GPU, made of the ordinary commands; bounded in time, each part allowed to fail by itself.

    python tests/devices/on_gpu.py --out gpu-check                 # 8 minutes at most, on the first GPU
    python tests/devices/on_gpu.py --device cpu --toy --out check  # at toy size, as the test suite runs some of it

It prints a table and writes check.json to the folder. The CPU is measured beside the GPU in the same run. Exit status 1
if a part failed.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lattice_flows.training import read_checkpoint

COMMAND = [sys.executable, "-m", "lattice_flows.cli"]
THEORY = '[theory]\nname = "u1"\nshape = [{side}, {side}]\nbeta = 2.0\n'
FLOWS = {
    "coupling": '[flow]\nname = "plaquette_coupling"\ntransform = "projection"\n{small}',
    "multiscale": '[flow]\nname = "multiscale"\n',
}
CHAINS = """
[[ensemble]]
name = "flow_metropolis"
sampler = "flow_metropolis"
n_chains = {chains}
n_configs = {configs}
[[ensemble]]
name = "flow_hmc"
sampler = "flow_hmc"
n_chains = {chains}
n_configs = {configs}
n_thermalisation = 5
start = "flow"
trajectory_length = 0.5
n_md_steps = 4
"""
_PART_SECONDS = 120.0  # at most of one command
_POLL_SECONDS = 0.2
Figures = dict[str, Any]


@dataclass
class Size:
    """The size of everything, in lattice sites, samples and seconds of training."""

    side: int
    batch: int
    seconds: float
    steps: int
    chains: int
    configs: int
    small: str = ""


FULL = Size(side=16, batch=1024, seconds=15.0, steps=400, chains=256, configs=50)
TOY = Size(side=4, batch=16, seconds=1.0, steps=30, chains=8, configs=10, small="n_layers = 8\nhidden = [4]\n")


@dataclass
class Check:
    """The parts that ran so far, and the time that is left."""

    device: str
    size: Size
    out: Path
    seconds: float
    begun: float = field(default_factory=time.monotonic)
    figures: dict[str, Figures] = field(default_factory=dict)

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.begun)

    def part(self, name: str, run: Callable[[], Figures]) -> None:
        """Run a part; what goes wrong in it is one of its figures."""
        start = time.monotonic()
        try:
            if self.left <= 0:
                raise TimeoutError("no time left")
            found = run()
        except Exception as error:  # whatever it is, the other parts are to run
            found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[-300:]}
        self.figures[name] = {**found, "part_seconds": round(time.monotonic() - start, 1)}
        (self.out / "check.json").write_text(json.dumps(self.figures, indent=1) + "\n")

    def card(self, name: str, flow: str, more: str = "") -> Path:
        size = self.size
        path = self.out / f"{name}.toml"
        training = f"[training]\nbatch_size = {size.batch}\nmonitor_every = 100000\n"
        text = THEORY.format(side=size.side) + FLOWS[flow].format(small=size.small) + training + more
        path.write_text("seed = 1\n" + text)
        return path

    def call(self, arguments: Sequence[str], program: Sequence[str] = COMMAND) -> tuple[int, float]:
        """Run a command. Returns the peak of its memory in bytes: of the process, and what it took of the GPU."""
        watch = _GpuMemory(self.device)
        limit = min(_PART_SECONDS, max(5.0, self.left))
        command, pipe = [*program, *arguments], subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True) as one:
            timer = threading.Timer(limit, one.kill)
            timer.start()
            try:
                said = one.stdout.read() if one.stdout else ""
                _, status, usage = os.wait4(one.pid, 0)
            finally:
                timer.cancel()
            one.returncode = os.waitstatus_to_exitcode(status)
        peak = watch.stop()
        if one.returncode != 0:
            lines = said.strip().splitlines() or [f"killed after {limit:.0f} s"]
            raise RuntimeError(f"exit status {one.returncode}: {lines[-1]}")
        return usage.ru_maxrss * 1024, peak

    def trained(self, name: str, flow: str, device: str, *options: str, torchrun: bool = False) -> Figures:
        """The figures of a flow trained for a fixed time."""
        size, folder = self.size, self.out / name
        options = (f"device={device}", f"training.max_seconds={size.seconds}", *options)
        sets = [part for option in options for part in ("--set", option)]
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", "-m", "lattice_flows.cli"]
        program = [sys.executable, *launcher] if torchrun else COMMAND
        memory = self.call(["train", str(self.card(name, flow)), "--out", str(folder), *sets], program)
        return {**self.flow_in(folder), **_memory(memory)}

    def flow_in(self, folder: Path) -> Figures:
        """The steps and the quality of the flow in a run folder."""
        held = read_checkpoint(folder / "flow" / "checkpoint.pt")
        (samples,) = self.analysed(folder / "flow" / "evaluation.h5").values()
        keys = ("ess", "ess_error", "ess_reliable", "log_z")
        return {
            "steps": held.step,
            "steps_per_second": held.step / held.train_seconds,
            **{key: samples["proposals"][key] for key in keys},
        }

    def analysed(self, *files: Path) -> Figures:
        """The ensembles of summary.json."""
        target = self.out / "numbers.json"
        self.call(["analyse", *map(str, files), "--json", str(target)])
        return json.loads(target.read_text())["ensembles"]

    def chains(self, flow: str) -> Figures:
        """The chains of a flow on the device: seconds, acceptance and the pull of the plaquette."""
        folder = self.out / "chains"
        size = self.size
        card = self.card("chains", flow, CHAINS.format(chains=size.chains, configs=size.configs))
        sets = ["--set", f"device={self.device}", "--set", f"training.max_seconds={size.seconds}"]
        self.call(["train", str(card), "--out", str(folder), *sets])
        memory = self.call(["sample", str(folder)])
        found: Figures = _memory(memory)
        for name, one in self.analysed(*sorted((folder / "ensembles").glob("*.h5"))).items():
            found[f"{name}_acceptance"] = one["acceptance_rate"]
            found[f"{name}_seconds"] = one["seconds"]
            found[f"{name}_plaquette_pull"] = one["observables"]["plaquette"]["pull"]
        return found

    def stopped_and_resumed(self) -> Figures:
        """A training that a signal stops and a second call continues, beside one that was not stopped."""
        options = (f"device={self.device}", f"training.max_steps={self.size.steps}", "training.checkpoint_seconds=0.2")
        sets = [part for option in options for part in ("--set", option)]
        card, folder = str(self.card("stopped", "coupling")), self.out / "stopped"
        self.call(["train", card, "--out", str(self.out / "whole"), *sets])
        command = [*COMMAND, "train", card, "--out", str(folder), *sets]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
            until = time.monotonic() + min(_PART_SECONDS, max(5.0, self.left))
            while one.poll() is None and time.monotonic() < until and not (folder / "flow" / "checkpoint.pt").exists():
                time.sleep(0.01)
            one.send_signal(signal.SIGTERM)
            status = one.wait(60)
        self.call(["train", card, "--out", str(folder), *sets])
        whole, parts = self.flow_in(self.out / "whole"), self.flow_in(folder)
        return {
            "status_of_the_stop": status,  # 75; 0 if it had ended before
            "steps": parts["steps"],
            "ess_whole": whole["ess"],
            "ess_resumed": parts["ess"],
            "same_bits": whole["log_z"] == parts["log_z"],  # on GPUs some sums have no fixed order
        }


class _GpuMemory:
    """The peak of the memory in use on the GPU while it watches, above what was in use before, in bytes."""

    def __init__(self, device: str) -> None:
        self._stop = threading.Event()
        self._begun = self._peak = _used() if device.startswith("cuda") else None
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if self._begun is not None:
            self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self._peak = max(self._peak or 0, _used() or 0)

    def stop(self) -> float:
        self._stop.set()
        if self._begun is None or self._peak is None:
            return 0.0
        self._thread.join()
        return float(self._peak - self._begun)


def _used() -> int | None:
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return int(subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout) << 20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _memory(peaks: tuple[int, float]) -> Figures:
    return {"host_GB": round(peaks[0] / 1e9, 2), "gpu_GB": round(peaks[1] / 1e9, 2)}


def _machine(device: str) -> Figures:
    import torch

    found: Figures = {"torch": torch.__version__, "cores": os.cpu_count(), "host": platform.processor()}
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        found |= {"gpu": properties.name, "gpu_total_GB": round(properties.total_memory / 1e9, 1)}
    return found


_NCCL = """
import torch, torch.distributed as dist
dist.init_process_group("nccl", init_method="tcp://127.0.0.1:29571", rank=0, world_size=1)
x = torch.ones(1 << 20, device="cuda")
dist.all_reduce(x)
assert float(x.sum()) == 1 << 20
dist.destroy_process_group()
"""


def parts_of(check: Check) -> dict[str, Callable[[], Figures]]:
    """All parts by name, the most wanted first."""
    device, on_gpu = check.device, check.device.startswith("cuda")
    found: dict[str, Callable[[], Figures]] = {"machine": lambda: _machine(device)}
    for flow in FLOWS:
        for where in dict.fromkeys((device, "cpu")):
            found[f"{flow} on {where}"] = lambda flow=flow, where=where: check.trained(f"{flow}-{where}", flow, where)
    found["chains"] = lambda: check.chains("coupling")
    found["stop and resume"] = check.stopped_and_resumed
    for precision in ("tf32", "bfloat16") if on_gpu else ("bfloat16",):
        option = f"training.network_precision={precision}"
        found[precision] = lambda option=option, name=precision: check.trained(name, "coupling", device, option)
    found["torchrun"] = lambda: check.trained("torchrun", "coupling", device, torchrun=True)
    if on_gpu:
        found["nccl"] = lambda: _memory(check.call([], [sys.executable, "-c", _NCCL]))
    found["compile"] = lambda: check.trained("compile", "coupling", device, "training.compile=true")
    return found


def table_of(figures: dict[str, Figures]) -> Table:
    """One row for each part."""
    table = Table("part", "figures", title="the check")
    for name, found in figures.items():
        table.add_row(name, ", ".join(f"{key} {_text(value)}" for key, value in found.items()))
    return table


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"))
    parser.add_argument("--seconds", type=float, default=480.0, help="of all parts together")
    parser.add_argument("--toy", action="store_true", help="at toy size")
    parser.add_argument("--only", nargs="*", help="these parts")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    check = Check(options.device, TOY if options.toy else FULL, options.out, options.seconds)
    console = Console(width=160)
    for name, run in parts_of(check).items():
        if options.only is None or name in options.only:
            check.part(name, run)
            console.print(f"{name}: {check.figures[name]}", highlight=False, markup=False, soft_wrap=True)
    console.print(table_of(check.figures))
    sys.exit(any("error" in found for found in check.figures.values()))


if __name__ == "__main__":
    main()
