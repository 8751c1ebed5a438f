"""Searches for better values of a config: Optuna asks and is told, over runs of `deeper.sweep`."""
