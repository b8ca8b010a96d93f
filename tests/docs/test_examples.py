"""The worked examples of docs/add-a-*.md: their code is written to files, run from a card, and held to the contract."""

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import FREE_POINTS, SamplerCase
from samplers import test_contract
from samplers.conftest import measured, produced, started

from lattice_flows.flows import FLOWS
from lattice_flows.kernels import hmc
from lattice_flows.samplers import SAMPLERS
from lattice_flows.theories import THEORIES, WilsonU1

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^## [^\n]*`([\w.]+)`$\n+```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Write the files of a page into the current folder; returns its other blocks, (language, text)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    written: list[str] = []

    def write(page: str) -> list[tuple[str, str]]:
        text = (DOCS / page).read_text(encoding="utf-8")
        for name, content in FILE.findall(text):
            (tmp_path / name).write_text(content)
            written.append(name)
        files = [content for _, content in FILE.findall(text)]
        return [(language, content) for language, content in BLOCK.findall(text) if content not in files]

    yield write
    modules = [name.removesuffix(".py") for name in written]
    for catalogue in (THEORIES, SAMPLERS, FLOWS):
        for name in [name for name in catalogue if name.partition(":")[0] in modules]:
            del catalogue[name]
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def summary(lattice_flows):
    """Run a page's command; what it finds."""

    def run(command: str) -> dict[str, Any]:
        program, *words = shlex.split(command)
        assert program == "lattice-flows"
        status, _, said = lattice_flows(*words)
        assert status == 0, said
        return json.loads((Path(words[words.index("--out") + 1]) / "report" / "summary.json").read_text())

    return run


def pulls(ensemble: dict[str, Any]) -> dict[str, float]:
    """Of the trusted estimates with a closed form."""
    rows = ensemble["observables"].items()
    found = {name: row["pull"] for name, row in rows if row["pull"] is not None and row["trusted"]}
    assert len(found) >= 3
    return found


def test_sampler(example, summary):
    command, _ = [text for language, text in example("add-a-sampler.md") if language in ("sh", "python")]
    for name, ensemble in summary(command)["ensembles"].items():
        assert 0.5 < ensemble["acceptance_rate"] < 0.99
        assert max(map(abs, pulls(ensemble).values())) < 4.5, name


@pytest.fixture
def case(example) -> SamplerCase:
    (_, entry) = [text for language, text in example("add-a-sampler.md") if language in ("sh", "python")]
    import langevin

    names = {
        "SamplerCase": SamplerCase,
        "Langevin": langevin.Langevin,
        "POINTS": (((4, 4), WilsonU1(1.0)), FREE_POINTS[0]),
    }
    exec(entry, names)
    return names["CASE"]


CONTRACT = [
    test_contract.test_step_leaves_its_argument_alone,
    test_contract.test_many_updates_at_once_are_as_one_by_one,
    test_contract.test_a_restored_state_goes_on_with_the_same_bits,
    test_contract.test_configurations_are_standard_representatives,
]


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_sampler_holds_the_contract(check: Callable[..., None], case, seed):
    check(case, case.build(case.points[0][1], case.points[0][0]), seed)


@pytest.mark.parametrize("point", [0, 1], ids=["u1", "phi4"])
@pytest.mark.parametrize(("off", "caught"), [(0.0, False), (0.05, True)])
def test_sampler_has_the_exact_expectation_values(case, point, off, caught, seed):
    """And a target that is five per cent off is caught."""
    shape, action = case.points[point]
    sampler = case.build(action.scaled(1.0 + off), shape)
    state = started(sampler, action, shape, case.n_chains, seed)
    series, weights = produced(sampler, action, state, case.n_configs, case.n_updates, shape)
    exact = action.closed_forms(shape)
    estimates = measured(series, weights, action, shape, exact)
    found = {quantity.name: (value - quantity.exact(exact)) / error for quantity, value, error in estimates}
    assert (max(map(abs, found.values())) > 4.5) == caught, found


def test_transform(example, summary):
    blocks = example("add-a-transform.md")
    (command,) = [text for language, text in blocks if language == "sh"]
    found = summary(command)
    assert max(map(abs, pulls(found["ensembles"]["flow"]).values())) < 4.5
    assert abs(found["flow"]["log_z"] - found["flow"]["log_z_exact"]) < 4.5 * found["flow"]["log_z_error"]
    assert found["flow"]["ess"] > 0.5


def test_transform_holds_the_contract(example, generator):
    (check,) = [text for language, text in example("add-a-transform.md") if language == "python"]
    names: dict[str, Any] = {"torch": torch}
    exec(check, names)
    from shift_and_scale import ShiftAndScale, ShiftAndScaleFlow

    transform = ShiftAndScale((3, 2)).double()
    with torch.no_grad():
        for weight in transform.parameters():
            weight.normal_(generator=generator)
    x = torch.randn((4, 3, 2), generator=generator, dtype=torch.float64)
    names["check"](transform, x)

    class Wrong(ShiftAndScale):
        def forward(self, z):
            x, log_det = super().forward(z)
            return x, 1.01 * log_det

    wrong = Wrong((3, 2)).double()
    wrong.load_state_dict(transform.state_dict())
    with pytest.raises(AssertionError):
        names["check"](wrong, x)
    with pytest.raises(ValueError, match="mass_squared must be positive and finite, got 0"):
        ShiftAndScaleFlow((4, 4), mass_squared=0.0)


def test_samplers_cards_and_trainings_from_python(capsys, tmp_path, monkeypatch):
    """The blocks of docs/python.md."""
    monkeypatch.chdir(tmp_path)
    ensemble = '[[ensemble]]\nname = "hmc"\nsampler = "hmc"\nn_configs = 200\n'
    Path("card.toml").write_text('[theory]\nname = "u1"\nshape = [4, 4]\nbeta = 2.0\n' + ensemble)
    lines = (DOCS / "python.md").read_text(encoding="utf-8").splitlines()
    exec("\n".join(line[4:] for line in lines if line.startswith("    ")), {})
    assert Path("flow", "checkpoint.pt").exists()
    printed = re.search(r"^Estimate\(value=(\S+), error=(\S+), .*\) (\S+)\n", capsys.readouterr().out)
    assert printed is not None
    value, error, exact = map(float, printed.groups())
    assert abs(value - exact) < 4.5 * error


def test_theory(example, summary):
    """From torch and from compiled kernels: the action of the package's own model, its force, and the same energy."""
    (command,) = [text for language, text in example("add-a-theory.md") if language == "sh"]
    Path("fast.toml").write_text(Path("spins.toml").read_text().replace("spins:XY", "fast_spins:FastXY"))
    found = [
        summary(line)["ensembles"]["hmc"]["observables"]["energy"]
        for line in (command, "lattice-flows run fast.toml --allow-plugins --out fast")
    ]
    import fast_spins
    import spins

    slow, fast, own = spins.XY(0.8), fast_spins.FastXY(0.8), THEORIES["xy"](0.8)
    x = 3.0 * torch.randn(4, 6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for action in (slow, fast):
        torch.testing.assert_close(action(x), own(x))
        torch.testing.assert_close(action.force(x), own.force(x))
    torch.testing.assert_close(torch.from_numpy(fast.evaluate(x.numpy())), own(x))
    from_kernels = hmc.force(fast.kernel_couplings((6, 4)), x.numpy())
    torch.testing.assert_close(torch.from_numpy(from_kernels), own.force(x))
    # Equal streams: both made the same trajectories, until roundings drove them apart.
    errors = [row["error"] for row in found]
    assert abs(found[0]["value"] - found[1]["value"]) < 4.5 * (errors[0] ** 2 + errors[1] ** 2) ** 0.5
