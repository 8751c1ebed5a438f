"""Cross-entropy losses, and errors of predictions."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from deeper.errors import UserError

Logits = Float[Array, "batch classes"]
Labels = Int[Array, " batch"]
Targets = Labels | Float[Array, "batch classes"]  # true classes, or shares of the classes
Loss = Callable[[Logits, Targets], Float[Array, " batch"]]


def cross_entropy(
    logits: Logits, targets: Targets, smoothing: float = 0.0
) -> Float[Array, " batch"]:
    """Cross-entropy of each example in nats.

    Args:
        logits: float32 scores.
        targets: the true classes, or shares of the classes.
        smoothing: share of the target that is spread evenly over all classes (Szegedy et al. 2015,
            section 7).
    """
    if targets.ndim == 1:
        plain = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        target_logit = jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    else:
        plain = optax.softmax_cross_entropy(logits, targets)
        target_logit = (logits * targets).sum(axis=-1)
    if not smoothing:
        return plain
    # The mean over classes of -log p, the cross-entropy with the uniform distribution as target.
    uniform = plain + target_logit - logits.mean(axis=-1)
    return (1.0 - smoothing) * plain + smoothing * uniform


def binary_cross_entropy(
    logits: Logits, targets: Targets, smoothing: float = 0.0, threshold: float | None = None
) -> Float[Array, " batch"]:
    """Binary cross-entropy of each example in nats, averaged over the classes.

    Wightman et al. 2021 (arXiv:2110.00476): with Mixup and CutMix an image shows several classes,
    and the presence of each is predicted independently. As in timm's BinaryCrossEntropy, smoothing
    is applied before the threshold.

    Args:
        logits: float32 scores.
        targets: the true classes, or shares of the classes.
        smoothing: share of the target that is spread evenly over all classes.
        threshold: shares above it count as 1, all others as 0; None does not change them.
    """
    classes = logits.shape[-1]
    shares = jax.nn.one_hot(targets, classes) if targets.ndim == 1 else targets
    shares = (1.0 - smoothing) * shares + smoothing / classes
    if threshold is not None:
        shares = (shares > threshold).astype(jnp.float32)
    return optax.sigmoid_binary_cross_entropy(logits, shares).mean(axis=-1)


def loss_of(name: str, smoothing: float, threshold: float | None) -> Loss:
    """Return the loss function of a config.

    Args:
        name: cross_entropy or binary_cross_entropy.
        smoothing: label smoothing of the loss.
        threshold: threshold of `binary_cross_entropy`; None for `cross_entropy`.

    Raises:
        UserError: the name is unknown, or cross_entropy is given a threshold.
    """
    if name == "binary_cross_entropy":
        return partial(binary_cross_entropy, smoothing=smoothing, threshold=threshold)
    if name != "cross_entropy":
        raise UserError(
            f"train.loss={name} is unknown; choose cross_entropy or binary_cross_entropy."
        )
    if threshold is not None:
        raise UserError(
            f"train.target_threshold={threshold}: it needs train.loss=binary_cross_entropy."
        )
    return partial(cross_entropy, smoothing=smoothing)


def wrong(logits: Logits, targets: Targets) -> Float[Array, " batch"]:
    """Return 1.0 where the predicted class is wrong; with mixed labels, 1 - its target share."""
    if targets.ndim == 1:
        return 1.0 - in_top(logits, targets, 1)
    share = jnp.take_along_axis(targets, logits.argmax(axis=-1)[:, None], axis=-1)[:, 0]
    return 1.0 - jnp.where(_rank(logits), share, 0.0)


def in_top(logits: Logits, labels: Labels, k: int) -> Float[Array, " batch"]:
    """Return 1.0 where the true class is among the k highest scores, else 0.0.

    Ties count against the prediction, so that a net with the same score for every class is wrong.
    Scores with NaN are wrong, too.
    """
    true_logit = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    higher = (logits >= true_logit).sum(axis=-1) - 1
    return ((higher < k) & _rank(logits)).astype(jnp.float32)


def _rank(logits: Logits) -> Bool[Array, " batch"]:
    """Return whether scores rank the classes: the highest is finite, and none is NaN."""
    return jnp.isfinite(logits.max(axis=-1))
