"""Where chains that need no thermalisation begin."""

_SWEEPS = 1000  # for small lattices away from a critical point


def equilibrium(action, shape, streams):
    """Configurations in equilibrium and the streams: drawn directly where possible, else after a long heat bath."""
    event = action.event_shape(shape)
    if direct := action.direct_sampler():
        return direct.draw(event, streams)
    x, streams = action.hot(streams, event)
    return action.local_updates(event).heatbath(x, streams, _SWEEPS)
