"""Where chains that need no thermalisation begin."""

import numpy as np

from lattice_flows.lattice import Interval, Product
from lattice_flows.theories.potentials.action import Potential

_SWEEPS = 1000  # for small lattices away from a critical point
_FAR = (4.0, 8.0)  # beyond, exp(-S) of a double well is below 1e-14 of its largest value at scales of 1 and more


def equilibrium(action, shape, streams):
    """Configurations in equilibrium and the streams: drawn directly where possible, else after many local updates."""
    event = action.event_shape(shape)
    if direct := action.direct_sampler():
        return direct.draw(event, streams)
    if isinstance(action, Potential):
        return _points(action, streams[:, 0]), streams
    x, streams = action.hot(streams, event)
    updates = action.local_updates(event)
    return (
        updates.heatbath(x, streams, _SWEEPS) if updates.heatbath else updates.metropolis(x, streams, 1.0, _SWEEPS)[:2]
    )


def _points(action, keys):
    """An independent point of a potential for each key, (n, 2), by rejection."""
    low, high = _box(action.space)
    grid = np.stack(np.meshgrid(*np.linspace(low, high, 400).T), axis=-1).reshape(-1, 2)
    least = action.evaluate(grid).min() - 0.1  # the minimum may lie between the points of the grid
    return np.stack([_point(action, low, high, least, np.random.default_rng(key)) for key in keys])


def _point(action, low, high, least, rng):
    while True:
        tries = rng.uniform(low, high, (1000, 2))
        accepted = -np.log(rng.random(len(tries))) > action.evaluate(tries) - least
        if accepted.any():
            return tries[accepted.argmax()]


def _box(space):
    if isinstance(space, Product):
        intervals = [part for part in space.parts if isinstance(part, Interval)]
        return np.array([part.low for part in intervals]), np.array([part.high for part in intervals])
    return -np.array(_FAR), np.array(_FAR)
