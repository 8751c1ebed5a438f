"""Compiled, data-parallel training: state, step, loop, evaluation, checkpoints and data feeds."""
