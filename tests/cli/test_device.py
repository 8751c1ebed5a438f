"""Settings of JAX, and their record."""

import json
import os
import subprocess
import sys

PROGRAM = """
import json
import jax, jax.numpy as jnp
from deeper.run import device
device.start_jax(cpu_kernels=True)
drawn = jax.random.uniform(jax.random.key(0), (3,))
print(json.dumps([str(jnp.zeros(()).dtype), drawn.tolist(), device.facts(device.mesh_of(1))]))
"""


def told(**variables):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_variables_of_jax_change_no_number_and_the_rest_are_recorded():
    dtype, drawn, facts = told()
    other = told(
        JAX_ENABLE_X64="1",
        JAX_DEFAULT_PRNG_IMPL="rbg",
        JAX_THREEFRY_PARTITIONABLE="0",
        JAX_DEFAULT_MATMUL_PRECISION="float32",
        JAX_COMPILATION_CACHE_DIR="/nowhere",
    )
    assert other[:2] == [dtype, drawn] and dtype == "float32"
    assert other[2]["jax_variables"]["JAX_DEFAULT_MATMUL_PRECISION"] == "float32"
    assert "JAX_COMPILATION_CACHE_DIR" not in other[2]["jax_variables"]
    assert "JAX_DEFAULT_MATMUL_PRECISION" not in facts["jax_variables"]
    assert facts["cores"] >= 1
