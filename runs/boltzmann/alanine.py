"""A Boltzmann generator of alanine dipeptide beside replica exchange.

    lattice-flows run runs/boltzmann/alanine_exchange.toml --out output/alanine_exchange
    lattice-flows run runs/boltzmann/alanine_dipeptide.toml --out output/alanine_dipeptide
    python runs/boltzmann/alanine.py output/alanine_dipeptide output/alanine_exchange

It prints the table of effective sample sizes, free energies and distances, and draws into the folder --out: the
distributions of phi and psi, the free energy along phi, and the path of a straight line in latent space.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from molecules.pictures import draw_path, draw_profiles, draw_ramachandran
from molecules.torsions import of_chains, of_weights, total_variation

from lattice_flows.card.build import load_flow
from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.exit_status import run_as_command
from lattice_flows.flows import Flow
from lattice_flows.production.run_folder import find_run
from lattice_flows.production.training_data import HELD_OUT
from lattice_flows.statistics import (
    N_BLOCKS,
    ValueWithError,
    bennett,
    effective_sample_size,
    gamma_method,
    log_partition,
    log_z_interval,
    weighted_mean,
)
from lattice_flows.terminal.numbers import with_error
from lattice_flows.theories import MolecularAction
from lattice_flows.training import CHECKPOINT_NAME, evaluate_on, read_checkpoint

_LARGEST = 600.0  # of log(w / Z): exp of more is no number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the finished run of alanine_dipeptide.toml")
    parser.add_argument("exchange", type=Path, help="the finished run of alanine_exchange.toml")
    parser.add_argument("--out", type=Path, default=Path("output/alanine"), help="a folder for the figures")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    reference = Ensemble.open(given.exchange / "ensembles" / "exchange.h5")
    samples = Ensemble.open(given.run / "ensembles" / "samples.h5")
    flow, action = flow_of(given.run)
    print("\n".join(table(flow, action, given.run, samples, reference)))
    draw(flow, action, samples, reference, given.out)


def flow_of(run: Path) -> tuple[Flow, MolecularAction]:
    """The trained flow of a run, and its target."""
    card = find_run(run, None)[1]
    flow, _ = load_flow(card, run / "flow" / CHECKPOINT_NAME, torch.device("cpu"))
    action = card.theory.action
    if not isinstance(flow, Flow) or not isinstance(action, MolecularAction):
        raise InputError(f"{run}: is no run of a flow of a molecule")
    return flow, action


def table(flow: Flow, action: MolecularAction, run: Path, samples: Ensemble, reference: Ensemble) -> list[str]:
    """The rows of a Markdown table."""
    log_w = samples.series("log_w").ravel()  # independent, in any order
    unseen = math.ceil(HELD_OUT * reference.n_configs)  # by the training, which has learnt the others by heart
    if unseen < N_BLOCKS:
        raise InputError(
            f"{reference.n_configs} configurations of the reference are too few: {HELD_OUT:.0%} of them, which the "
            f"training has not seen, must be {N_BLOCKS} or more"
        )
    x = torch.from_numpy(reference.configs(reference.n_configs - unseen, reference.n_configs))
    backward = evaluate_on(flow, action, x.flatten(0, 1), torch.Generator()).reshape(x.shape[:2])
    by_weights = log_partition(log_w)
    by_both, ess = _by_both(log_w, backward), effective_sample_size(log_w)
    relative = backward - (by_both or by_weights).value  # log(w / Z), of which the mean of exp is 1 / ESS
    relative_w = np.exp(np.minimum(relative, _LARGEST))
    forward_ess = gamma_method(relative_w)
    angles = np.array([reference.series(name)[-unseen:] for name in ("phi", "psi")])
    heaviest = int(relative.argmax())
    phi, psi = samples.series("phi"), samples.series("psi")
    found = of_weights(phi.ravel(), psi.ravel(), log_w)
    distance = total_variation(found, of_chains(reference.series("phi"), reference.series("psi")))
    training = read_checkpoint(run / "flow" / CHECKPOINT_NAME)
    positive = weighted_mean((phi > 0).astype(float).ravel(), log_w)
    by_exchange = gamma_method((reference.series("phi") > 0).astype(float))
    rows = {
        "ESS of the flow's samples": with_error(*ess),
        "ESS by unseen configurations of the reference": with_error(
            1.0 / forward_ess.value, forward_ess.error / forward_ess.value**2
        ),
        "the same of those with phi < 0": f"{1.0 / relative_w[angles[0] < 0].mean():.2g}",
        "the heaviest of them": "phi = {:.0f}, psi = {:.0f}, ".format(*np.degrees(angles.reshape(2, -1)[:, heaviest]))
        + f"{relative_w.flat[heaviest]:.2g} times the mean weight",
        "log Z by weights": with_error(*by_weights),
        "log Z by BAR of both": "no overlap" if by_both is None else with_error(*by_both),
        "log Z from both sides": _both_ends(log_w, backward),
        "P(phi > 0), weighted": with_error(*positive),
        "P(phi > 0), replica exchange": with_error(by_exchange.value, by_exchange.error),
        "total variation of phi and psi": f"{distance.value:.4f}, of which noise makes {distance.floor:.4f}",
        "steps of the training": f"{training.step} in {training.train_seconds:.0f} s",
    }
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]


def _both_ends(forward: np.ndarray, backward: np.ndarray) -> str:
    """The interval that holds log Z; samples of weight zero leave it without a lower end."""
    if not np.isfinite(forward).all():
        return f"no lower end, {int((~np.isfinite(forward)).sum())} samples of the flow have the weight 0"
    interval = log_z_interval(forward, backward)
    return f"{with_error(*interval.lower)} to {with_error(*interval.upper)}"


def _by_both(forward: np.ndarray, backward: np.ndarray) -> ValueWithError | None:
    """log Z by BAR; None where the samples of the flow and the configurations do not overlap."""
    try:
        return bennett(forward, backward)
    except RuntimeError:
        return None


def draw(flow: Flow, action: MolecularAction, samples: Ensemble, reference: Ensemble, out: Path) -> None:
    """All figures."""
    phi, psi = (samples.series(name) for name in ("phi", "psi"))
    log_w = samples.series("log_w")
    chains = reference.series("phi"), reference.series("psi")
    draw_ramachandran((phi.ravel(), psi.ravel()), log_w.ravel(), chains, out / "ramachandran.png")
    draw_profiles(phi, log_w, chains[0], out / "profile.svg")
    x = torch.from_numpy(reference.configs(0, reference.n_configs)).flatten(0, 1)
    left = np.flatnonzero((chains[0].ravel() < -1.0) & (np.abs(chains[1].ravel() - 1.2) < 0.5))
    right = np.flatnonzero(chains[0].ravel() > 0.6)
    if len(left) and len(right):
        draw_path(flow, action, x[left[0]], x[right[0]], out / "path.svg")
    print(f"figures are in {out}")


if __name__ == "__main__":
    run_as_command(main)
