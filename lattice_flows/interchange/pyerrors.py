"""Export of series to a json.gz file of pyerrors (arXiv:2209.14371): one Obs per series, one replicum per chain."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from lattice_flows.ensembles import Ensemble
from lattice_flows.errors import InputError
from lattice_flows.headless import import_matplotlib
from lattice_flows.production.origin import Origin
from lattice_flows.samplers import windows_of
from lattice_flows.terminal.interrupt import StopRequest

_CHARGE = "topological_charge"
_FEWEST_CONFIGS = 5  # that pyerrors takes
_WEIGHT_NOTE = (
    "the chains sample a distribution other than the theory's: averages need the weight, "
    "pyerrors.reweight(reweighting_factor, [obs])"
)


def write_pyerrors(ensemble: Ensemble, target: Path, stop: StopRequest) -> None:
    """Write all series for pyerrors.input.json.load_json.

    The tag of an Obs is the name of its series; chain k is the replicum NAME_DIGEST|rk (see `ensemble_label`), and
    idl holds the numbers of the configurations. The topological charge is rounded to an integer, and its square is
    an Obs of its own, topological_charge_squared. A weighted ensemble has one more Obs, reweighting_factor: exp(log_w)
    up to a constant; its other Obs are the series as they are, NOT reweighted. The description is a dict: the file's
    attributes, `left_out` (series that pyerrors cannot take, with the reason), and for a weighted ensemble a `note`
    on the weight.

    Raises InputError if pyerrors is missing or no series can be exported, and for chains in windows or populations,
    which no Obs can join. Raises Stopped once it is asked for.
    """
    import_matplotlib()  # which pyerrors loads
    try:
        import pyerrors.input.json  # type: ignore[import-untyped]
    except ImportError:
        raise InputError(
            "export: the package pyerrors is missing; install it with pip install 'lattice_flows[interchange]'"
        ) from None
    attributes = ensemble.attributes
    origin = Origin(attributes)
    if origin.n_particles > 1:
        raise InputError(
            f"{ensemble.path}: its chains are particles of populations, which depend on one another; an Obs takes its "
            "replica as independent"
        )
    if windows_of(origin.sampler):
        name = origin.sampler["name"]
        raise InputError(f"{ensemble.path}: the windows of {name} sampling are joined by MBAR; an Obs cannot hold it")
    observables, left_out = _observables(ensemble, stop)
    if not observables:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise InputError(f"{ensemble.path}: holds no series that pyerrors can take ({reasons})")
    note = {"note": _WEIGHT_NOTE} if origin.weighted else {}
    text = pyerrors.input.json.create_json_string(observables, {**attributes, "left_out": left_out, **note})
    target.write_bytes(gzip.compress(text.encode()))


def name_of_pyerrors(target: Path) -> Path:
    """The file that load_json opens for this name: it adds .json and .gz where they lack."""
    if not target.name:  # as that of "."
        return target
    name = target.name if target.name.endswith((".json", ".gz")) else f"{target.name}.json"
    return target.with_name(name if name.endswith(".gz") else f"{name}.gz")


def _observables(ensemble: Ensemble, stop: StopRequest) -> tuple[list[Any], dict[str, str]]:
    """The pyerrors.Obs, and the reason for each series that is left out."""
    found, left_out = [], {}
    for source in ensemble.series_names:
        configs = ensemble.series_configs(source)
        stop.raise_if_set()
        for name, series in _quantities(ensemble, source).items():
            if len(series) < _FEWEST_CONFIGS:
                left_out[name] = f"measured on fewer than {_FEWEST_CONFIGS} configurations"
            elif not np.isfinite(series).all():
                left_out[name] = "holds values that are not finite"
            else:
                found.append(_observable(ensemble, name, series, configs))
    return found, left_out


def _quantities(ensemble: Ensemble, source: str) -> dict[str, np.ndarray]:
    """The series (n, B) in double precision and those derived from it, by name."""
    series = ensemble.series(source).astype(np.float64)
    if source == _CHARGE:
        charge = np.rint(series)  # rounding noise of a frozen charge would pass for a fluctuation
        return {source: charge, f"{source}_squared": charge**2}
    if source == "log_w" and Origin(ensemble.attributes).weighted:
        return {source: series, "reweighting_factor": np.exp(series - series.max())}
    return {source: series}


def ensemble_label(ensemble: Ensemble) -> str:
    """The name of the Monte Carlo history: NAME and a digest of theory, sampler, seed and flow.

    pyerrors takes Obs of one name as measured on the same configurations. Ensembles of one card name at different
    couplings are not.
    """
    attributes = ensemble.attributes
    made = [str(attributes.get(key)) for key in ("theory", "sampler", "seed", "flow_sha256", "imported_from")]
    digest = hashlib.sha256(json.dumps(made).encode()).hexdigest()[:8]
    return f"{attributes.get('name', ensemble.path.stem)}_{digest}".replace("|", "_")


def _observable(ensemble: Ensemble, name: str, series: np.ndarray, configs: np.ndarray) -> Any:
    import pyerrors

    label = ensemble_label(ensemble)
    names = [f"{label}|r{ensemble.first_chain + k}" for k in range(ensemble.n_chains)]
    idl = [range(int(configs[0]), int(configs[-1]) + 1, int(configs[1] - configs[0]))] * len(names)
    # The rounding of the mean would pass for a fluctuation of a constant series; so a constant is added afterwards.
    constant = float(series[0, 0]) if (series == series[0, 0]).all() else None
    chains = list(series.T) if constant is None else [np.zeros(len(series)) for _ in names]
    observable = pyerrors.Obs(chains, names, idl=idl)
    observable = observable if constant is None else observable + constant
    observable.tag = name
    return observable
