"""Weights of other libraries in, ours out."""
