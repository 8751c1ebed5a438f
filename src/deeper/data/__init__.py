"""Data sets on disk and batches in host memory. This package does not import JAX."""
