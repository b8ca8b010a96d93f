"""What is looked at once before an ensemble is begun: whether code of somebody else is what a run takes it for.

Everything here raises ValueError, in one line, for what would make a chain wrong, or end it with a traceback. The
configurations are a few, in the start that the ensemble asks for.
"""

import logging
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.card.card import Card, EnsembleTable
from lattice_flows.kernels import hmc
from lattice_flows.kernels.random import make_streams
from lattice_flows.samplers import Sampler
from lattice_flows.samplers.info import PROPOSALS
from lattice_flows.samplers.state_arrays import flatten
from lattice_flows.theories.action import Action
from lattice_flows.theories.catalogue import THEORIES
from lattice_flows.theories.measurement import Measurement, values_of

_log = logging.getLogger(__name__)

Array = NDArray[Any]
Streams = NDArray[np.uint64]

ACTION = "action"
"""The series of S, which every ensemble has."""
_N_CHAINS = 2
_STEP = 1e-6  # of the finite differences, in a molecular-dynamics time
_OWN = f"{__name__.partition('.')[0]}."


def check_parts(card: Card, table: EnsembleTable, sampler: Sampler) -> None:
    """Raise ValueError if the theory, an observable, or the state of the sampler is not what a run needs.

    What is the package's own is not looked at. The sampler need not be tuned.
    """
    if not card.plugins:
        return
    if THEORIES.source(card.theory.name) is not None:
        event = card.theory.action.event_shape(card.theory.shape)
        check_theory(card.theory.action, event, _kind_of_start(table), _streams(card, table, sampler))
    x, streams = _start(card, table, sampler)
    check_measurements(card.measurements, x)
    for name, one in _from_within(table, sampler):
        checked_state(name, one, x, streams)


def check_first_step(card: Card, table: EnsembleTable, sampler: Sampler) -> None:
    """Raise ValueError if a step of the sampler, which is tuned, is not what a run needs."""
    if card.plugins:
        x, streams = _start(card, table, sampler)
        for name, one in _from_within(table, sampler):
            # The series of a part get the names of the part's number.
            measurements = card.measurements if one is sampler else ()
            check_step(name, one, checked_state(name, one, x, streams), measurements)


def _from_within(table: EnsembleTable, sampler: Sampler) -> list[tuple[str, Sampler]]:
    """The ensemble's sampler and all inside it by name, the innermost first: a whole is what its parts are."""
    every = list(sampler.walk())
    return [(table.sampler if one is sampler else type(one).__name__, one) for one in reversed(every)]


def _kind_of_start(table: EnsembleTable) -> str:
    return "cold" if table.start == "cold" else "hot"


def _streams(card: Card, table: EnsembleTable, sampler: Sampler) -> Streams:
    return make_streams(card.seed, f"check of {table.name}", range(sampler.chains_per_set or _N_CHAINS))


def _start(card: Card, table: EnsembleTable, sampler: Sampler) -> tuple[Array, Streams]:
    """A few configurations, hot or cold as the ensemble asks for."""
    action, streams = card.theory.action, _streams(card, table, sampler)
    event = action.event_shape(card.theory.shape)
    if _kind_of_start(table) == "hot":
        return action.hot(streams, event)
    return np.repeat(action.cold(event)[None], len(streams), axis=0), streams


def check_theory(action: Action, event: tuple[int, ...], start: str, streams: Streams) -> None:
    """Raise ValueError if the space, S or the compiled code of this theory is wrong on configurations of this shape.

    A force that is not -dS/dx is only told: the chain stays exact.
    """
    name, space = type(action).__name__, action.space
    if (own := tuple(space.variable_shape)) and event[-len(own) :] != own:
        raise ValueError(
            f"{name}: configurations of {space} must end in the axes {list(own)}, got the shape {list(event)}"
        )
    starts = {"hot": _hot(action, event, streams), "cold": _cold(action, event, len(streams))}
    for told, x in starts.items():
        _check_space(name, action, told, x)
        s = _check_s(name, action, told, x)
        if np.isnan(s).any() or (told == start and not np.isfinite(s).all()):
            raise ValueError(f"{name}: S of the {told} start is {s[~np.isfinite(s)][0]}; it must be finite")
    _check_compiled(name, action, starts["hot"])
    if np.isfinite(action.evaluate(starts["hot"])).all():
        _tell_of_force(name, action, starts["hot"], streams)


def _hot(action: Action, event: tuple[int, ...], streams: Streams) -> Array:
    made = action.hot(streams.copy(), event)
    if not (isinstance(made, tuple) and len(made) == 2):
        raise ValueError(f"{type(action).__name__}: hot() must return x and the streams, got {_kind(made)}")
    return _fitting(action, "hot()", made[0], (len(streams), *event))


def _cold(action: Action, event: tuple[int, ...], n: int) -> Array:
    return np.repeat(_fitting(action, "cold()", action.cold(event), event)[None], n, axis=0)


def _fitting(action: Action, what: str, x: Any, shape: tuple[int, ...]) -> Array:
    """x, a copy. Raises ValueError if it is not an array of this shape of the space's numbers, all finite."""
    wanted, name = action.space.dtype, type(action).__name__
    if not isinstance(x, np.ndarray) or x.shape != shape or x.dtype != wanted:
        raise ValueError(f"{name}: {what} must return an array {list(shape)}, {wanted}, got {_kind(x)}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name}: {what} returns numbers that are not finite")
    return x.copy()


def _check_space(name: str, action: Action, told: str, x: Array) -> None:
    """Raise ValueError if the space does not know its own configurations."""
    field = torch.from_numpy(x.copy())
    wrapped = action.space.wrap(field)
    if not isinstance(wrapped, Tensor) or wrapped.shape != field.shape or wrapped.dtype != field.dtype:
        raise ValueError(
            f"{name}: wrap() of its space must return a tensor {list(x.shape)}, {field.dtype}, got {_kind(wrapped)}"
        )
    for what, values in ((f"{told}()", torch.from_numpy(x)), ("wrap()", wrapped)):
        if fault := action.space.fault(values):
            raise ValueError(f"{name}: fault() of its space refuses what {what} returns: {fault}")


def _check_s(name: str, action: Action, told: str, x: Array) -> Array:
    """S of x. Raises ValueError if it changes x, or is not one number for each configuration by itself."""
    s, kept = _s_of(name, action, x), x.copy()
    _s_of(name, action, kept)
    if not _equal(kept, x):
        raise ValueError(f"{name}: S changes the configurations that it is given; work on a copy")
    alone = np.concatenate([_s_of(name, action, x[k : k + 1]) for k in range(len(x))])
    finite = np.isfinite(s) & np.isfinite(alone)
    off = np.abs(s - alone, where=finite, out=np.zeros(len(s))) > 1e-6 * np.maximum(1.0, np.abs(s))
    if off.any():
        k = int(np.argmax(off))
        raise ValueError(
            f"{name}: S of a configuration must not depend on those beside it: it is {s[k]:.10g} in the {told} batch "
            f"and {alone[k]:.10g} alone"
        )
    return s


def _s_of(name: str, action: Action, x: Array) -> Array:
    """S by torch. Raises ValueError for anything but (B,), float64."""
    with torch.no_grad():
        s = action(torch.from_numpy(x))
    if not isinstance(s, Tensor) or s.shape != (len(x),) or s.dtype != torch.float64:
        raise ValueError(
            f"{name}: S of {len(x)} configurations must be a tensor [{len(x)}], torch.float64, got {_kind(s)}"
        )
    return s.numpy()


def _check_compiled(name: str, action: Action, x: Array) -> None:
    """Raise ValueError if the kernels compute another S than torch."""
    couplings = action.kernel_couplings(x.shape[1:])
    if couplings is None:
        return
    slow, fast = _s_of(name, action, x.copy()), hmc.action(couplings, x)
    off = ~(np.abs(slow - fast) <= 1e-8 * np.maximum(1.0, np.abs(slow))) & (slow != fast)
    if off.any():
        k = int(np.argmax(off))
        raise ValueError(
            f"{name}: the kernels of kernel_couplings, {type(couplings).__name__}, compute another S than torch: "
            f"{fast[k]:.12g}, not {slow[k]:.12g}"
        )


def _tell_of_force(name: str, action: Action, x: Array, streams: Streams) -> None:
    """Say so if the force, in torch or compiled, is not -dS/dx. Raises ValueError if it changes x or does not fit."""
    if action.space.tangent_shape is None:
        return
    target, _ = action.refresh(x.copy(), streams.copy())
    field = torch.from_numpy(x.copy())
    try:
        force = target.force(field)
    except (NotImplementedError, RuntimeError):  # an S without a derivative: other samplers than HMC do not ask for it
        return
    wanted = (len(x), *action.space.tangent_event(x.shape[1:]))
    if not isinstance(force, Tensor) or force.shape != wanted:
        raise ValueError(f"{name}: the force must be a tensor {list(wanted)}, like momenta, got {_kind(force)}")
    if not _equal(field.numpy(), x):
        raise ValueError(f"{name}: force() changes the configurations that it is given; work on a copy")
    momenta, _ = action.space.momenta(x, streams.copy())
    slope, s = _slope(target, x, momenta)
    _tell_if_off(f"the force of {name}", force.detach().numpy(), slope, momenta, s)
    couplings = action.kernel_couplings(x.shape[1:])
    if couplings is not None and momenta.shape == x.shape:
        compiled = hmc.force(couplings, x)
        _tell_if_off(f"the force of {name} by its kernels", compiled, slope, momenta, s)


def _slope(action: Action, x: Array, momenta: Array) -> tuple[Array, float]:
    """dS/dt of each configuration when it drifts with these momenta, and the size of S."""
    name, space = type(action).__name__, action.space
    ends = [space.drift(torch.from_numpy(x), torch.from_numpy(momenta), t)[0].numpy() for t in (_STEP, -_STEP)]
    ahead, behind = (_s_of(name, action, end) for end in ends)
    return (ahead - behind) / (2 * _STEP), float(np.abs(ahead).max())


def _tell_if_off(what: str, force: Array, slope: Array, momenta: Array, s: float) -> None:
    along = -(force * momenta).reshape(len(force), -1).sum(1)
    size = np.sqrt((force * force).reshape(len(force), -1).sum(1))
    # A force that is no number is told as well.
    size = np.maximum(np.maximum(size, np.abs(slope)), 1e-300)
    rounding = 1e3 * np.finfo(float).eps * max(1.0, s) / _STEP
    off = ~(np.abs(along - slope) <= 1e-3 * size + rounding)
    if off.any():
        relative = float((np.abs(along - slope) / size)[off].max())
        _say_once(f"{what} differs from -dS/dx by {relative:.2g}: exact, but trajectories are hardly accepted")


@cache
def _say_once(text: str) -> None:
    _log.warning("%s", text)


def check_measurements(measurements: Sequence[Measurement], x: Array) -> None:
    """Raise ValueError if an observable that is not the package's own changes x, or does not return (n,) numbers."""
    for one in measurements:
        observable = one.unflowed
        if type(observable).__module__.startswith(_OWN):
            continue
        copy = x.copy()
        values_of(observable, copy)
        if not _equal(copy, x):
            raise ValueError(
                f"the observable {observable.name!r} changes the configurations that it is given; let it work on a copy"
            )


def checked_state(name: str, sampler: Sampler, x: Array, streams: Streams) -> Any:
    """The state of the chains at x. Raises ValueError if it is none, or if the sampler names arguments it has not."""
    known = [field.name for field in fields(sampler)] if is_dataclass(sampler) else dir(sampler)
    if strange := [key for key in sampler.tunable if key not in known]:
        raise ValueError(f"{name}: tunable names {strange[0]!r}, which is no argument of the sampler")
    kept = x.copy()
    state = sampler.init(kept, streams.copy())
    if "x" not in _fields_of(state):
        raise ValueError(f"{name}: init() must return a NamedTuple with a field x, got {_kind(state)}")
    _check_x(name, "init()", state.x, x)
    if not _equal(kept, x):
        raise ValueError(f"{name}: init() changes the configurations that it is given; work on a copy")
    return state


def check_step(name: str, sampler: Sampler, state: Any, measurements: Sequence[Measurement]) -> None:
    """Raise ValueError if a step changes its argument, or returns no state and info, or a series that is taken."""
    before = {key: np.array(value) for key, value in flatten(state).items()}
    made = sampler.step(state)
    if not (isinstance(made, tuple) and len(made) == 2):
        raise ValueError(f"{name}: step() must return the new state and an info, got {_kind(made)}")
    after = flatten(state)
    if changed := [key for key, value in before.items() if not _equal(value, np.asarray(after[key]))]:
        raise ValueError(
            f"{name}: step() changes {changed[0]} of the state that it is given; it must leave it as it is"
        )
    new, info = made
    if _fields_of(new) != state._fields:
        raise ValueError(f"{name}: step() must return a state like that of init(), got {_kind(new)}")
    _check_x(name, "step()", new.x, state.x)
    _check_info(name, info, len(state.x))
    _check_weights(name, sampler, info)
    _check_names(name, info, measurements)


def _check_x(name: str, what: str, x: Any, like: Array) -> None:
    if not isinstance(x, np.ndarray) or x.shape != like.shape or x.dtype != like.dtype:
        raise ValueError(f"{name}: {what} must return x as an array {list(like.shape)}, {like.dtype}, got {_kind(x)}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name}: {what} returns configurations that are not finite")


def _check_info(name: str, info: Any, n_chains: int) -> None:
    if not (isinstance(info, tuple) and hasattr(info, "_fields")):
        raise ValueError(f"{name}: the info of a step must be a NamedTuple, got {_kind(info)}")
    for key, values in zip(info._fields, info):
        fits = isinstance(values, np.ndarray) and values.dtype.kind in "biuf"
        if key == PROPOSALS:
            fits = fits and values.ndim == 2 and values.shape[1] == n_chains
        if not fits or (key != PROPOSALS and values.shape != (n_chains,)):
            raise ValueError(
                f"{name}: {key} of the info must be an array of one number for each of {n_chains} chains, "
                f"got {_kind(values)}"
            )


def _check_weights(name: str, sampler: Sampler, info: Any) -> None:
    if not sampler.weighted:
        return
    if "log_w" not in info._fields:
        raise ValueError(f"{name}: is weighted, but the info of its steps has no log_w, only {', '.join(info._fields)}")
    log_w = info.log_w
    if np.isnan(log_w).any() or np.isposinf(log_w).any():
        raise ValueError(f"{name}: log_w of the first step must be a number below infinity, got {log_w.max()}")


def _check_names(name: str, info: Any, measurements: Sequence[Measurement]) -> None:
    taken = {ACTION: "S of the theory"}
    taken |= {one.observable.name: f"the observable {one.unflowed.kind!r}" for one in measurements}
    if clashing := [key for key in info._fields if key in taken]:
        raise ValueError(
            f"the series {clashing[0]!r} is given twice, by {taken[clashing[0]]} and by the info of the sampler "
            f"{name!r}; rename one"
        )


def _equal(one: Array, other: Array) -> bool:
    return one.shape == other.shape and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _fields_of(value: Any) -> tuple[str, ...]:
    """The names of the fields of a NamedTuple; none for anything else."""
    return getattr(value, "_fields", ()) if isinstance(value, tuple) else ()


def _kind(value: Any) -> str:
    """The shape and type of what somebody's code has returned."""
    if isinstance(value, (np.ndarray, Tensor)):
        return f"{'an array' if isinstance(value, np.ndarray) else 'a tensor'} {list(value.shape)}, {value.dtype}"
    return "None" if value is None else f"a {type(value).__name__}"
