"""What imports load, seen in a process of its own: import-linter does not see what an `__init__` runs."""

import importlib
import pkgutil
import re
import subprocess
import sys

import pytest

import lattice_flows
import lattice_flows.theories

pytestmark = pytest.mark.quick

WITHOUT_TORCH = re.compile(
    r"lattice_flows\.(kernels|statistics|ensembles|theories\.tensor_network|"
    r"theories\.\w+\.(kernels|closed_forms|direct|free_field))(\.|$)"
)


def test_kernels_and_closed_forms_load_no_torch():
    found = [module.name for module in pkgutil.walk_packages(lattice_flows.__path__, "lattice_flows.")]
    names = [name for name in found if WITHOUT_TORCH.match(name)]
    assert {"lattice_flows.theories.u1.kernels.fields", "lattice_flows.theories.u1.closed_forms"} <= set(names)
    code = f"import sys, {', '.join(names)}\nprint('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("name", ["lattice_flows", "lattice_flows.theories"])
def test_every_public_name_is_found(name: str):
    module = importlib.import_module(name)
    assert all(getattr(module, public) is not None for public in module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(module, "nonsense")  # noqa: B009


def test_the_public_names_hold_every_theory_and_sampler():
    from lattice_flows.samplers import SAMPLERS
    from lattice_flows.theories import THEORIES

    for one in (*THEORIES.values(), *SAMPLERS.values()):
        assert getattr(lattice_flows, one.__name__) is one


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"torch", "numba", "scipy", "h5py", "pydantic", "matplotlib", "numpy"}
    for statement in ("import lattice_flows", "import lattice_flows.cli"):
        code = f"import sys\n{statement}\nprint(sorted({heavy!r} & sys.modules.keys()))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n", statement
