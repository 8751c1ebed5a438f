"""Images of one 32-bit word a pixel, channel c in byte c.

A warp then moves one word instead of three bytes, and channel arithmetic runs along whole rows.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt8, UInt32

Words = UInt32[Array, "height width"]
Scalar = Float[Array, ""]
Channels = list[Int[Array, "height width"]]


def pack(images: UInt8[Array, "... channels"]) -> UInt32[Array, "..."]:
    """Return each pixel's channels as one word."""
    return join([images[..., c] for c in range(images.shape[-1])])


def unpack(words: UInt32[Array, "..."], channels: int) -> UInt8[Array, "... channels"]:
    """Return the words' bytes as channels."""
    return lax.bitcast_convert_type(words, jnp.uint8)[..., :channels]


def split(words: Words, channels: int) -> Channels:
    return [((words >> (8 * c)) & 255).astype(jnp.int32) for c in range(channels)]


def join(channels: Channels) -> Words:
    out = channels[0].astype(jnp.uint32)
    for c, channel in enumerate(channels[1:], 1):
        out |= channel.astype(jnp.uint32) << (8 * c)
    return out
