"""Sources of configurations: the rules of `start` in an [[ensemble]] and of `data` in [training]."""

from pathlib import Path

from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.regular_files import at_home
from lattice_flows.theories.action import Action

DIRECT, FLOW = "direct", "flow"
ONE_CONFIGURATION = ".npy"  # the suffix of a file with a lone one
_LONGEST = 300  # of a path in a message


def check_start(start: str, action: Action, with_flow: bool, where: str = "") -> None:
    """Check that `start` is "hot", "cold", "direct", "flow", NAME.h5 or NAME.npy; the file need not exist yet.

    Raises InputError, whose text begins with `where`, if it is none of these, if it is "direct" and the theory has no
    direct sampler, or "flow" without a flow.
    """
    told = f"{where}start = {start[:_LONGEST]!r}"
    if start not in ("hot", "cold", DIRECT, FLOW) and Path(start).suffix not in (".h5", ONE_CONFIGURATION):
        raise InputError(
            f"{told}: is neither 'hot', 'cold', 'direct', 'flow' nor an ensemble file (NAME.h5) or a configuration "
            f"(NAME{ONE_CONFIGURATION})"
        )
    if start == FLOW and not with_flow:
        raise InputError(f"{told}: is only for samplers with a flow")
    if start == DIRECT:
        _require_direct(action, told, "use 'hot' or 'cold'")


def check_data(data: str | None, action: Action, told: str) -> None:
    """Check that `data` is "direct", NAME.h5 or None (no data); the file need not exist yet.

    Raises InputError, whose text begins with `told`, if it is none of these, or "direct" and the theory has no direct
    sampler.
    """
    if data == DIRECT:
        _require_direct(action, told, "give an ensemble file")
    elif data is not None and Path(data).suffix != ".h5":
        raise InputError(f"{told}: is neither 'direct' nor an ensemble file (NAME.h5)")


def existing_ensemble(source: str, told: str) -> Path:
    """The path of an ensemble file. Raises InputError, whose text begins with `told`, if there is no such file."""
    if not Ensemble.exists(path := at_home(source)):
        raise InputError(f"{told}: no such ensemble file")
    return path


def _require_direct(action: Action, told: str, instead: str) -> None:
    if action.direct_sampler() is None:
        raise InputError(f"{told}: there is no direct sampler for this theory; {instead}")
