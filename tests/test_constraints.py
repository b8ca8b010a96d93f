"""constraints.txt: every distribution that the README's two commands install has its version there."""

from configparser import ConfigParser
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.quick

CHECKOUT = Path(__file__).parents[1]
OF_CUDA = ("nvidia-", "cuda-", "triton")  # a CUDA build of torch names the versions itself


def asked_for(*extras: str) -> list[Requirement]:
    """What setup.cfg asks for."""
    setup = ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    texts = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in extras)]
    return [Requirement(line) for text in texts for line in text.splitlines() if line.strip()]


def closure(requirements: list[Requirement]) -> set[str]:
    """The names of what is installed for these requirements in this environment."""
    names, seen, left = set(), set(), [*requirements]
    while left:
        wanted = left.pop()
        name = canonicalize_name(wanted.name)
        if (name, *wanted.extras) in seen or name.startswith(OF_CUDA):
            continue
        seen.add((name, *wanted.extras))
        names.add(name)
        for text in distribution(name).requires or ():
            needed = Requirement(text)
            extras = wanted.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                left.append(needed)
    return names


def pins() -> dict[str, Requirement]:
    lines = (line.partition("#")[0].strip() for line in (CHECKOUT / "constraints.txt").read_text().splitlines())
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, filter(None, lines))}


@pytest.mark.parametrize("extras", [(), ("test",)], ids=["run", "test"])
def test_all_that_is_installed_is_pinned(extras):
    assert sorted(closure(asked_for(*extras)) - pins().keys()) == []


def test_every_pin_names_one_version_and_something_that_is_installed():
    assert all([one.operator for one in pin.specifier] == ["=="] for pin in pins().values())
    assert sorted(pins().keys() - closure(asked_for("test"))) == []


def test_pins_satisfy_setup_cfg():
    held = pins()
    for wanted in asked_for("interchange", "test"):
        (version,) = held[canonicalize_name(wanted.name)].specifier
        assert wanted.specifier.contains(version.version), f"{wanted}: constraints.txt has {version}"
