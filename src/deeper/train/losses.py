"""Cross-entropy and the counts that go with it."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

Logits = Float[Array, "batch classes"]
Labels = Int[Array, " batch"]
Targets = Labels | Float[Array, "batch classes"]  # true classes, or shares of the classes

# Szegedy et al. 2014, section 5: the auxiliary heads' losses count 0.3 in training.
AUXILIARY_WEIGHT = 0.3


def cross_entropy(
    logits: Logits, targets: Targets, smoothing: float = 0.0
) -> Float[Array, " batch"]:
    """Cross-entropy of each example in nats.

    Args:
        logits: float32 scores.
        targets: the true classes, or shares of the classes.
        smoothing: share of the target spread evenly over all classes (Szegedy et al. 2015, 7).
    """
    if targets.ndim == 1:
        plain = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        own = jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    else:
        plain = optax.softmax_cross_entropy(logits, targets)
        own = (logits * targets).sum(axis=-1)
    if not smoothing:
        return plain
    # The mean over classes of -log p: the cross-entropy to the even distribution.
    even = plain + own - logits.mean(axis=-1)
    return (1.0 - smoothing) * plain + smoothing * even


def wrong(logits: Logits, targets: Targets) -> Float[Array, " batch"]:
    """1.0 where the first answer is wrong, or, of mixed labels, what share of them it misses."""
    if targets.ndim == 1:
        return 1.0 - in_top(logits, targets, 1)
    return 1.0 - jnp.take_along_axis(targets, logits.argmax(axis=-1)[:, None], axis=-1)[:, 0]


def in_top(logits: Logits, labels: Labels, k: int) -> Float[Array, " batch"]:
    """1.0 where the true class is among the k highest scores, else 0.0.

    Scores that tie with the true class's count as higher: a net that answers the same for every
    class gets no credit.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    higher = (logits >= own).sum(axis=-1) - 1
    return (higher < k).astype(jnp.float32)
