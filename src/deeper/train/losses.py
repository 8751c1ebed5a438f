"""Cross-entropy and the counts that go with it."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

Logits = Float[Array, "batch classes"]
Labels = Int[Array, " batch"]

# Szegedy et al. 2014, section 5: the auxiliary heads' losses count 0.3 in training.
AUXILIARY_WEIGHT = 0.3


def cross_entropy(logits: Logits, labels: Labels, smoothing: float = 0.0) -> Float[Array, " batch"]:
    """Cross-entropy of each example in nats.

    Args:
        logits: float32 scores.
        labels: the true classes.
        smoothing: share of the target spread evenly over all classes (Szegedy et al. 2015, 7).
    """
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if not smoothing:
        return plain
    # The mean over classes of -log p: the cross-entropy to the even distribution.
    log_z = plain + jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    even = log_z - logits.mean(axis=-1)
    return (1.0 - smoothing) * plain + smoothing * even


def in_top(logits: Logits, labels: Labels, k: int) -> Float[Array, " batch"]:
    """1.0 where the true class is among the k highest scores, else 0.0.

    Scores that tie with the true class's count as higher: a net that answers the same for every
    class gets no credit.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    higher = (logits >= own).sum(axis=-1) - 1
    return (higher < k).astype(jnp.float32)
