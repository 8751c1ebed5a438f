"""The compiled, data-parallel training loop."""
