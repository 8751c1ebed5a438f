"""Strictness for the whole suite: rank promotion raises and every warning is an error."""

import os

# Four host devices for the data-parallel tests; set before jax starts.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
).strip()
os.environ.setdefault("WANDB_MODE", "disabled")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
