"""How alike the representations of two nets' layers are: linear CKA, batch by batch.

Kornblith et al. 2019 (arXiv:1905.00414); over batches by the unbiased estimator of the
Hilbert-Schmidt independence criterion of Nguyen, Raghu and Kornblith 2020 (arXiv:2010.15327,
section 3), so that memory does not grow with the data set and the value does not depend on the
batch's size.
"""

from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from deeper.interpret.traced_net import Images, TracedNet


def hsic(one: Float[Array, "n n"], other: Float[Array, "n n"]) -> Float[Array, ""]:
    """Return the unbiased estimate for two Gram matrices whose diagonals are zero.

    Song et al. 2012, "Feature selection via dependence maximization", equation 5.
    """
    n = len(one)
    by_row, by_row_too = one.sum(axis=1), other.sum(axis=1)
    same = (one * other).sum()
    means = by_row.sum() * by_row_too.sum() / ((n - 1) * (n - 2))
    rows = 2.0 / (n - 2) * (by_row * by_row_too).sum()
    return (same + means - rows) / (n * (n - 3))


def _grams(found: dict[str, Array], layers: Sequence[str]) -> Float[Array, "layers n n"]:
    """Return each layer's Gram matrix, without its diagonal."""

    def gram(maps: Array) -> Array:
        flat = maps.reshape(len(maps), -1)
        products = jnp.matmul(flat, flat.T, precision=jax.lax.Precision.HIGHEST)
        return products * (1.0 - jnp.eye(len(maps)))

    return jnp.stack([gram(found[layer]) for layer in layers])


def cka(
    one: TracedNet,
    other: TracedNet,
    layers: tuple[Sequence[str], Sequence[str]],
    batches: Iterable[Images],
    progress: Callable[[int], None] = lambda done: None,
) -> Float[np.ndarray, "layers other_layers"]:
    """Return linear CKA between all layers of two nets, 0 to 1 but for the estimate's noise.

    Args:
        one: a net.
        other: another, or the same.
        layers: names of each net's.
        batches: normalised images, four or more in each; all of the same number.
        progress: told of the images done.
    """

    @jax.jit
    def products(images):
        ours = _grams(one(images, layers[0]), layers[0])
        theirs = _grams(other(images, layers[1]), layers[1])
        across = jax.lax.map(lambda k: jax.lax.map(lambda m: hsic(k, m), theirs), ours)
        return (
            across,
            jax.lax.map(lambda k: hsic(k, k), ours),
            jax.lax.map(lambda m: hsic(m, m), theirs),
        )

    total, done = None, 0
    for images in batches:
        found = [np.asarray(part, np.float64) for part in products(images)]
        total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
        done += len(images)
        progress(done)
    if total is None:
        raise ValueError("no batches")
    across, own, others = total
    return across / np.sqrt(own[:, None] * others[None])
