"""Training on two nodes of a real Slurm: srun starts a torchrun on each."""

from pathlib import Path

from cards import assert_same_ensemble
from cluster.slurm_lab import Slurm
from cluster.submitted import Submitted
from trainings import assert_same_training, train_by_two

from lattice_flows.training import CHECKPOINT_NAME, read_checkpoint

CARD = """
seed = %d
[theory]
name = "u1"
shape = [4, 4]
beta = 1.0
[flow]
name = "plaquette_coupling"
n_layers = 4
hidden = [8]
[training]
max_steps = 40
batch_size = 9  # so that two processes have unequal shares
monitor_every = 4
"""
TWO_NODES = """
partition = "pair"
nodes = 2
"""


def test_a_training_on_two_nodes_is_requeued_and_ends_as_without(slurm: Slurm, tmp_path: Path, seed: int) -> None:
    with Submitted.prepare(slurm, tmp_path, CARD % seed, TWO_NODES) as run:
        run.hold("train", look=17)
        run.submit()
        uninterrupted = tmp_path / "uninterrupted"
        train_by_two(tmp_path / "card.toml", uninterrupted)
        run.held("train")
        slurm.signal(run.id("train"))
        ended = run.wait("train", "analyse")
        states = {name: (job.state, job.restarts) for name, job in ended.items()}
        assert states == {"train": ("COMPLETED", 1), "analyse": ("COMPLETED", 0)}
        held = read_checkpoint(run.out / "flow" / CHECKPOINT_NAME)
        assert (held.processes, held.step, held.reason) == (2, 40, "max_steps")
        assert_same_training(run.out, uninterrupted)
        assert_same_ensemble(run.out / "flow" / "evaluation.h5", uninterrupted / "flow" / "evaluation.h5")
