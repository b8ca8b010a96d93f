"""Every sampler of 2D U(1) at every point of the scan: python runs/freezing/scan.py output/freezing

Two lines of points: beta = 1 ... 10 on 16x16, and L^2/beta = 64 on the way to the continuum. What is finished is left
alone, so the same command goes on after an interruption; more --seconds lengthen the chains.
"""

import argparse
import math
from pathlib import Path

from rich.console import Console

from lattice_flows.estimates.selection import EVERYTHING
from lattice_flows.exit_status import run_as_command
from lattice_flows.stages import analyse_stage, sample_stage

CARD = Path(__file__).with_name("card.toml")
AT_16 = [(float(beta), 16) for beta in range(1, 11)]
AT_64 = [(1.0, 8), (9.0, 24), (16.0, 32), (25.0, 40), (36.0, 48), (64.0, 64)]  # and (4.0, 16) above

LOCAL = ("hmc", "metropolis", "overrelaxation")
HOPS = ("direct", "hmc_instanton", "overrelaxation_instanton", "winding_hmc")
BIASED = ("metadynamics", "exchange")
FREE, SLOW, LARGEST = 3.0, (4.0, 7.0), 32  # up to FREE HMC needs no help; in SLOW it moves, but hardly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one ensemble, about; slow samplers take more")
    arguments = parser.parse_args()
    console = Console()
    for beta, side in [*AT_16, *AT_64]:
        folder = arguments.out / f"{side}x{side}_beta{beta:g}"
        console.print(f"[bold]{folder}[/bold]")
        sample_stage(CARD, folder, overrides(beta, side, arguments.seconds), names(beta, side), console)
        analyse_stage(folder, None, EVERYTHING, console)


def names(beta: float, side: int) -> list[str]:
    """The samplers of a point: a ladder or a bias only where HMC needs one and they are within reach."""
    return [*HOPS, *LOCAL, *(["tempering", *BIASED] if beta > FREE and side <= LARGEST else [])]


def overrides(beta: float, side: int, seconds: float) -> list[str]:
    """What a point changes in the card, as `--set` takes it."""
    changes = [f"theory.beta={beta}", f"theory.shape=[{side}, {side}]"]
    for name, options in settings(beta, side).items():
        n_chains, n_updates, n_configs = counts(name, beta, side, seconds)
        own = [*options, f"n_chains={n_chains}", f"n_updates={n_updates}", f"n_configs={n_configs}"]
        changes += [f"ensemble.{name}.{change}" for change in own]
    return changes


def settings(beta: float, side: int) -> dict[str, list[str]]:
    """The samplers' own keys, `key=value` in TOML."""
    n = n_md_steps(beta)
    hmc = f"{{sampler = 'hmc', integrator = 'omelyan', n_md_steps = {n}}}"
    bias = biased(beta, side)
    part = ", ".join(["sampler = 'metadynamics'", "integrator = 'omelyan'", *bias])
    return {
        "direct": [],
        "hmc": [f"n_md_steps={n}"],
        "metropolis": [],
        "overrelaxation": [],
        "hmc_instanton": [f"parts=[{hmc}, {{sampler = 'instanton'}}]"],
        "overrelaxation_instanton": [],
        "winding_hmc": [f"n_md_steps={n}"],
        "tempering": [f"replica={hmc}", f"n_replicas={rungs(beta, side)}"],
        "metadynamics": bias,
        "exchange": [f"parts=[{hmc}, {{{part}}}]"],
    }


def n_md_steps(beta: float) -> int:
    """A step in a fixed ratio to the fastest mode, whose frequency is sqrt(8 beta): the acceptance is 0.8 or more."""
    return max(3, round(1.9 * math.sqrt(beta)))


def rungs(beta: float, side: int) -> int:
    """Two for each unit of the barrier between neighbours, about 0.65 sqrt(V / 2 pi) log(beta / 2.5)."""
    return 3 + round(1.3 * side / math.sqrt(2 * math.pi) * abs(math.log(beta / 2.5)))


def biased(beta: float, side: int) -> list[str]:
    """Gaussians as wide as a valley of the smooth charge, so high that 10000 of them fill barriers of about 2 beta."""
    width = min(0.1, side / math.sqrt(24 * math.pi**2 * beta**3))
    height = 0.0015 * beta / width
    figures = {"width": round(width, 4), "height": round(height, 4), "bias_factor": 2.0 * beta, "n_grid": 1001}
    return [f"n_md_steps = {round(2.5 * n_md_steps(beta))}", *(f"{key} = {value}" for key, value in figures.items())]


def counts(name: str, beta: float, side: int, seconds: float) -> tuple[int, int, int]:
    """n_chains, n_updates and n_configs that take about this time, or four times as long where a sampler is slow."""
    n_chains = 8 if name in ("tempering", *BIASED) else max(4, 8192 // side**2)
    n_updates = 4 if name in LOCAL and beta > FREE else 1
    slow = name in ("tempering", *BIASED) or (name in LOCAL and SLOW[0] <= beta <= SLOW[1])
    nanoseconds = 1e9 * seconds * (4 if slow else 1)
    return n_chains, n_updates, max(100, round(nanoseconds / (cost(name, beta, side) * side**2 * n_chains * n_updates)))


def cost(name: str, beta: float, side: int) -> float:
    """Nanoseconds of an update and its measurement, per site: a guess, only to fill the time with configurations."""
    hmc = 15 + 8 * n_md_steps(beta)
    return {
        "direct": 110,
        "metropolis": 30,
        "overrelaxation": 70,
        "overrelaxation_instanton": 76,
        "hmc": hmc,
        "hmc_instanton": 1.2 * hmc,
        "winding_hmc": 1.2 * hmc,
        "tempering": rungs(beta, side) * hmc,
        "metadynamics": 3 * hmc,
        "exchange": 5 * hmc,
    }[name]


if __name__ == "__main__":
    run_as_command(main)
