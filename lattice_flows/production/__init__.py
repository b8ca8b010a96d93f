"""The run folder and what fills it: train, tune, generate, measure, make again."""
