"""Convolutional-network studies in JAX: from a claim to a figure in one command."""

__version__ = "0.1.0"
