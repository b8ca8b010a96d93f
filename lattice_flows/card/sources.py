"""Where configurations come from: what a card may say of the start of chains, and of the data of a training."""

from pathlib import Path

from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.theories.action import Action

DIRECT, FLOW = "direct", "flow"


def check_start(start: str, action: Action, with_flow: bool, where: str = "") -> None:
    """Raises InputError, `where` before its text, for a start that is none of "hot", "cold", "direct", "flow" and
    NAME.h5, and where there is no direct sampler, or no flow, to start from. Whether the file exists is not asked.
    """
    told = f"{where}start = {start!r}"
    if start not in ("hot", "cold", DIRECT, FLOW) and Path(start).suffix != ".h5":
        raise InputError(f"{told}: is neither 'hot', 'cold', 'direct', 'flow' nor an ensemble file (NAME.h5)")
    if start == FLOW and not with_flow:
        raise InputError(f"{told}: is for samplers with a flow")
    if start == DIRECT:
        _require_direct(action, told, "use 'hot' or 'cold'")


def check_data(data: str | None, action: Action, told: str) -> None:
    """Raises InputError, `told` before its text, for data that are neither "direct" nor NAME.h5 (None: no data), and
    where there is no direct sampler. Whether the file exists is not asked.
    """
    if data == DIRECT:
        _require_direct(action, told, "give an ensemble file")
    elif data is not None and Path(data).suffix != ".h5":
        raise InputError(f"{told}: is neither 'direct' nor an ensemble file (NAME.h5)")


def existing_ensemble(source: str, told: str) -> Path:
    """The file of the ensemble. Raises InputError, `told` before its text, where there is none."""
    if not Ensemble.exists(path := Path(source)):
        raise InputError(f"{told}: there is no such ensemble file")
    return path


def _require_direct(action: Action, told: str, instead: str) -> None:
    if action.direct_sampler() is None:
        raise InputError(f"{told}: there is no direct sampler for this theory; {instead}")
