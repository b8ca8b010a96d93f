"""A card with a composed flow: trained, sampled, and exact; what its transforms do not offer is refused at once."""

import json

import pytest

from lattice_flows.card.card import parse_card
from lattice_flows.errors import InputError

CARD = """
seed = 3
[theory]
name = "phi4"
shape = [4, 4]
m2 = 1.0
lam = 0.0
[flow]
name = "composed"
transforms = ["coupling", {name = "coarse", transforms = [{name = "coupling", context = {name = "mlp", hidden = [8]}}]}]
prior = {name = "free", mass_squared = 2.0}
[training]
max_steps = 60
[[ensemble]]
name = "flow"
sampler = "flow_metropolis"
n_configs = 4000
[[ensemble]]
name = "latent"
sampler = "flow_hmc"
trajectory_length = 1.0
n_md_steps = 3
n_configs = 60
n_thermalisation = 20
n_chains = 20
"""


def test_chains_of_a_composed_flow_are_exact(lattice_flows, tmp_path):
    """Of a free field, whose averages are known; and a run that is done is not begun again."""
    card = tmp_path / "card.toml"
    card.write_text(CARD)
    status, _, said = lattice_flows("run", card, "--out", tmp_path / "run")
    assert status == 0, said
    summary = json.loads((tmp_path / "run" / "report" / "summary.json").read_text())
    assert summary["flow"]["ess"] > 0.5
    assert summary["flow"]["log_z_exact"] is not None
    off = abs(summary["flow"]["log_z"] - summary["flow"]["log_z_exact"])
    assert off < 4.5 * summary["flow"]["log_z_error"]
    for name in ("flow", "latent"):
        pulls = [row["pull"] for row in summary["ensembles"][name]["observables"].values() if row["pull"] is not None]
        assert len(pulls) > 2
        assert max(map(abs, pulls)) < 4.5


@pytest.mark.parametrize(
    "transforms",
    ['[{name = "maf", passes = 2}, {name = "maf", map = "naf"}]', '["iaf", "residual"]', '["angle_coupling"]'],
)
def test_what_is_trained_can_be_read_and_sampled(lattice_flows, tmp_path, transforms):
    theory = 'name = "xy"\nbeta = 0.5' if "angle" in transforms else 'name = "phi4"\nm2 = 1.0\nlam = 0.5'
    card = tmp_path / "card.toml"
    card.write_text(
        f'[theory]\n{theory}\nshape = [2, 2]\n[flow]\nname = "composed"\ntransforms = {transforms}\n'
        "[training]\nmax_steps = 2\nbatch_size = 8\nmonitor_samples = 16\n"
        '[[ensemble]]\nname = "e"\nsampler = "flow_samples"\nn_chains = 2\nn_configs = 10\n'
    )
    status, _, said = lattice_flows("run", card, "--out", tmp_path / "run")
    assert status == 0, said
    status, _, said = lattice_flows("run", tmp_path / "run", "--set", "ensemble.e.n_configs=12")
    assert status == 0, said


@pytest.mark.quick
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"coupling", {', '"copling", {', "transforms[0]: unknown name 'copling'; did you mean 'coupling'?"),
        ('"mlp", hidden = [8]', '"mlp", hidden = [8.5]', "transforms[0]: context: hidden.0 = 8.5: input should be"),
        ("[4, 4]", "[6, 5]", "transforms[1] (coarse): needs sides that are multiples of block = 2, got 6 x 5"),
        (
            '"free", mass_squared = 2.0',
            '"free", mass_squared = 0.0',
            "mass_squared must be between 1e-06 and 1e+06, got 0.0",
        ),
        ('{name = "free", mass_squared = 2.0}', '"uniform"', "prior = 'uniform' is none of real numbers"),
        ('["coupling", {', '[{name = "elementwise", map = "shift"}, {', "map = 'shift' has no parameter that keeps"),
        ("prior =", "n_repeats = 0\nprior =", "n_repeats must be between 1 and 1000, got 0"),
    ],
)
def test_bad_tables_are_told_with_their_place(old, new, message):
    assert old in CARD
    with pytest.raises(InputError) as caught:
        parse_card(CARD.replace(old, new))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.quick
def test_theories_of_links_are_refused():
    theory = 'name = "u1"\nshape = [4, 4]\nbeta = 1.0'
    text = f'[theory]\n{theory}\n[flow]\nname = "composed"\ntransforms = ["coupling"]\n'
    with pytest.raises(InputError, match=r"a number at each site.*WilsonU1 has the shape \[2, 4, 4\]"):
        parse_card(text)
