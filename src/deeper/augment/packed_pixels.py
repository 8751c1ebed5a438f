"""Images packed into one 32-bit word per pixel, channel c in byte c.

A geometric operation then moves one word instead of three bytes, and arithmetic on a channel runs
along contiguous rows.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt8, UInt32

Words = UInt32[Array, "height width"]
Scalar = Float[Array, ""]
Channels = list[Int[Array, "height width"]]


def pack(images: UInt8[Array, "... channels"]) -> UInt32[Array, "..."]:
    """Pack the channels (1 to 4) of each pixel into one word."""
    return join([images[..., c] for c in range(images.shape[-1])])


def unpack(words: UInt32[Array, "..."], channels: int) -> UInt8[Array, "... channels"]:
    """Unpack words into channels, the inverse of `pack`."""
    return lax.bitcast_convert_type(words, jnp.uint8)[..., :channels]


def split(words: Words, channels: int) -> Channels:
    """Return the channels of a packed image, each int32 (height, width)."""
    return [((words >> (8 * c)) & 255).astype(jnp.int32) for c in range(channels)]


def join(channels: Channels) -> Words:
    """Pack channels with values from 0 to 255 into one image, the inverse of `split`."""
    out = channels[0].astype(jnp.uint32)
    for c, channel in enumerate(channels[1:], 1):
        out |= channel.astype(jnp.uint32) << (8 * c)
    return out
