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


def hsic(k: Float[Array, "n n"], m: Float[Array, "n n"]) -> Float[Array, ""]:
    """Return the unbiased estimate for two Gram matrices whose diagonals are zero.

    Song et al. 2012, "Feature selection via dependence maximization", equation 5.
    """
    n = len(k)
    k_rows, m_rows = k.sum(axis=1), m.sum(axis=1)
    products = (k * m).sum()
    means = k_rows.sum() * m_rows.sum() / ((n - 1) * (n - 2))
    rows = 2.0 / (n - 2) * (k_rows * m_rows).sum()
    return (products + means - rows) / (n * (n - 3))


def _grams(outputs: dict[str, Array], layers: Sequence[str]) -> Float[Array, "layers n n"]:
    """Return each layer's Gram matrix, without its diagonal."""

    def gram(maps: Array) -> Array:
        flat = maps.reshape(len(maps), -1)
        products = jnp.matmul(flat, flat.T, precision=jax.lax.Precision.HIGHEST)
        return products * (1.0 - jnp.eye(len(maps)))

    return jnp.stack([gram(outputs[layer]) for layer in layers])


def cka(
    net1: TracedNet,
    net2: TracedNet,
    layers: tuple[Sequence[str], Sequence[str]],
    batches: Iterable[Images],
    progress: Callable[[int], None] = lambda done: None,
) -> Float[np.ndarray, "layers other_layers"]:
    """Return linear CKA between all layers of two nets, 0 to 1 but for the estimate's noise.

    Args:
        net1: a net.
        net2: another net, or the same.
        layers: names of the layers of the first and of the second net.
        batches: normalised images, at least four in each; all of the same size.
        progress: called with the images done.
    """

    @jax.jit
    def products(images):
        grams1 = _grams(net1(images, layers[0]), layers[0])
        grams2 = _grams(net2(images, layers[1]), layers[1])
        return (
            jax.lax.map(lambda k: jax.lax.map(lambda m: hsic(k, m), grams2), grams1),
            jax.lax.map(lambda k: hsic(k, k), grams1),
            jax.lax.map(lambda m: hsic(m, m), grams2),
        )

    total, done = None, 0
    for images in batches:
        parts = [np.asarray(part, np.float64) for part in products(images)]
        total = parts if total is None else [a + b for a, b in zip(total, parts, strict=True)]
        done += len(images)
        progress(done)
    if total is None:
        raise ValueError("no batches")
    cross, self1, self2 = total
    return cross / np.sqrt(self1[:, None] * self2[None])
