"""Float32 for sums, normalisation and logits in nets that compute in a shorter type."""

import jax
import jax.numpy as jnp


def at_least_float32(x: jax.Array) -> jax.Array:
    """Return bfloat16 and float16 as float32, float32 and float64 as they are."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
