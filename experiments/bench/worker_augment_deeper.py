"""Times our RandAugment(2, 9): reads a number of batches per line, prints seconds."""

import sys

from deeper.xla_flags import set_flags

set_flags()

import time

import jax
import jax.numpy as jnp
import numpy as np
from augment_images import BATCH, photographs

from deeper.augment.policies import RandAugment


def main() -> None:
    """Compile, then time batches on request."""
    policy = RandAugment(2, 9)
    images = jnp.asarray(photographs(int(sys.argv[1])))

    def batches(count, seed):
        """Augment the same photographs with new keys for each batch; the results stay on the
        device.
        """

        def one(number, total):
            key = jax.random.fold_in(jax.random.key(seed), number)
            out = policy(jax.random.split(key, BATCH), images)
            return total + out[:, ::37, ::41].sum(dtype=jnp.int32)

        return jax.lax.fori_loop(0, count, one, jnp.int32(0))

    call = jax.jit(batches)
    jax.block_until_ready(call(np.int32(1), np.uint32(0)))
    print("ready", jax.__version__, flush=True)
    for seed, line in enumerate(sys.stdin):
        start = time.perf_counter()
        jax.block_until_ready(call(np.int32(int(line)), np.uint32(seed)))
        print(time.perf_counter() - start, flush=True)


main()
