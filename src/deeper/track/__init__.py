"""The record of a run: its directory, and the mirror of it at Weights & Biases."""
