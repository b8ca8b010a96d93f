"""The run folder and the work that fills it: train, tune, generate, measure, remake."""
