"""The quickstart card for ten seeds: chi^2 against the closed forms, the largest pull, and the wall time of each run.

python tests/benchmarks/bench_quickstart_seeds.py [--seeds 1 2 3 ...] [--out FOLDER]

chi^2 is over plaquette, Q, Q^2, W(1x2) and W(2x2) of each ensemble with their covariance (chi_top is Q^2/V), added up
over the four independent ensembles: 20 degrees of freedom a seed. Asked for are p > 1e-4 and every |pull| < 4.5.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from scipy.stats import chi2

from lattice_flows.card.build import closed_forms_of
from lattice_flows.estimates.grouping import open_replicas
from lattice_flows.statistics import chi_squared, covariance_of_means

CARD = Path(__file__).parents[2] / "runs" / "quickstart" / "card.toml"
REDUNDANT = "topological_susceptibility"


def chi_squared_of(path: Path) -> tuple[float, int]:
    """chi^2 of one ensemble's means against the closed forms, and its degrees of freedom."""
    with ExitStack() as stack:
        (group,) = open_replicas([path], stack)
        exact = closed_forms_of(group.theory)
        means_with_exact = [one for one in group.quantities() if one.exact is not None and one.function is None]
        chosen = [one for one in means_with_exact if one.name != REDUNDANT]
        terms = [one.terms[0] for one in chosen]
        series = [[term.transform(chain) for chain in group.series(term.series)] for term in terms]
        means = np.array([np.concatenate(chains).mean() for chains in series])
        truths = np.array([quantity.exact(exact) for quantity in chosen])
        return chi_squared(means - truths, covariance_of_means(series)).chi2, len(chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 11)))
    parser.add_argument("--out", type=Path, default=Path(tempfile.mkdtemp()))
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        out = arguments.out / f"seed_{seed}"
        start = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "lattice_flows.cli",
            "run",
            str(CARD),
            "--out",
            str(out),
            "--set",
            f"seed={seed}",
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - start
        summary = json.loads((out / "report" / "summary.json").read_text())
        total, degrees = 0.0, 0
        for name in summary["ensembles"]:
            found, n = chi_squared_of(out / "ensembles" / f"{name}.h5")
            total, degrees = total + found, degrees + n
        tables = [ensemble["observables"] for ensemble in summary["ensembles"].values()]
        pulls = [row["pull"] for table in [*tables, summary["flow"]["observables"]] for row in table.values()]
        print(
            f"seed {seed:2}: chi^2 {total:5.1f} / {degrees}, p {chi2.sf(total, degrees):.3f}, "
            f"largest |pull| {max(map(abs, pulls)):.2f}, flow ESS {summary['flow']['ess']:.3f}, {seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
