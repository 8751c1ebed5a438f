"""Data sets on the disk and batches in host memory; nothing here knows JAX."""
