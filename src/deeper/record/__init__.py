"""The record of a run on disk: the run directory, its files and its lock."""
