"""Whether an installed wheel is whole: check_wheel.py SITE CHECKOUT, with SITE first on the path of imports."""

import importlib
import pkgutil
import sys
from pathlib import Path

import lattice_flows

site, checkout = map(Path, sys.argv[1:])
assert Path(lattice_flows.__file__).is_relative_to(site), lattice_flows.__file__

missing = [
    str(file.relative_to(checkout))
    for file in sorted((checkout / "lattice_flows").rglob("*"))
    if file.is_file() and "__pycache__" not in file.parts and not (site / file.relative_to(checkout)).is_file()
]
assert not missing, f"the wheel lacks {', '.join(missing)}"

names = [module.name for module in pkgutil.walk_packages(lattice_flows.__path__, "lattice_flows.")]
for name in names:
    importlib.import_module(name)
for name in lattice_flows.__all__:
    getattr(lattice_flows, name)
print(f"wheel: {len(names)} modules imported")
