"""Every classical sampler from a card: its numbers, and interruptions to the bit."""

import random

import pytest
from cards import (
    ARSENAL,
    ARSENAL_SAMPLERS,
    SCALAR,
    SCALAR_SAMPLERS,
    assert_same_ensemble,
    interrupted_runs,
    with_ensembles,
)

from lattice_flows.workflows.folder import RunFolder
from lattice_flows.workflows.stages import run

CARDS = {"u1": (ARSENAL, ARSENAL_SAMPLERS), "phi4": (SCALAR, SCALAR_SAMPLERS)}
N_CONFIGS = 200


@pytest.fixture(scope="module", params=CARDS)
def job(request, tmp_path_factory):
    """A card, and its run that was never interrupted."""
    folder = tmp_path_factory.mktemp(request.param)
    theory, samplers = CARDS[request.param]
    card = folder / "card.toml"
    card.write_text(with_ensembles(theory, samplers, N_CONFIGS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return card, folder / "run", run(card, folder / "run"), samplers


def test_every_sampler_has_its_numbers(job):
    _, _, summary, samplers = job
    assert list(summary["ensembles"]) == list(samplers)
    for name, ensemble in summary["ensembles"].items():
        assert ensemble["n_configs"] == N_CONFIGS
        assert ensemble["observables"], name
        for quantity, row in ensemble["observables"].items():
            assert row["value"] is not None
            if row["pull"] is not None and row["trusted"]:
                assert abs(row["pull"]) < 4.5, (name, quantity, row)


def test_interruptions_change_no_bit(job, tmp_path, monkeypatch, seed):
    """Stopped at random moments of thermalisation and production, and taken up again."""
    card, reference, _, samplers = job
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("lattice_flows.workflows.generate._BLOCK_SECONDS", 0.005)
    out = tmp_path / "interrupted"
    assert interrupted_runs(card, out, monkeypatch, random.Random(seed), 100) >= len(samplers)
    for name in samplers:
        assert_same_ensemble(RunFolder(reference).ensemble(name), RunFolder(out).ensemble(name))
