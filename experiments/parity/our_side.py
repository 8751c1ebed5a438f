"""Our answers, in torchvision's names and layout."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from formula import fill, fill_all
from nets import CLASSES, SIZE, Net

from deeper.models.alexnet import alexnet
from deeper.models.googlenet import googlenet
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.train import losses
from deeper.weights.torchvision import convert, revert, state_dict_shapes

FLOOR = 0.01
FAMILIES = {"alexnet": alexnet, "googlenet": googlenet, "resnet": resnet, "vgg": vgg}


def answers(net: Net, seed: int, count: int, with_step: bool) -> dict[str, np.ndarray]:
    """Return the logits of fixed images and, if asked, a training step's results."""
    model = FAMILIES[net.family](classes=CLASSES, **net.arguments)
    variables = convert(fill_all(state_dict_shapes(model), seed), model)
    images = jnp.asarray(fill("images", (count, 3, SIZE, SIZE), seed).transpose(0, 2, 3, 1))
    labels = jnp.arange(count) * 101 % CLASSES
    found = {"logits": np.asarray(jax.jit(_logits, static_argnums=0)(model, variables, images))}
    if with_step:
        loss, grads, stats = jax.jit(_step, static_argnums=0)(model, variables, images, labels)
        found["loss"] = np.asarray(loss)
        theirs = revert({"params": grads, "batch_stats": stats}, model)
        for name, array in theirs.items():
            kind = "statistics" if "running" in name else "gradient"
            found[f"{kind}/{name}"] = array
    return found


def _logits(model, variables, images):
    return model.apply(variables, images, train=False)


def _step(model, variables, images, labels):
    def loss_of(params):
        logits, updated = model.apply(
            {"params": params, "batch_stats": variables["batch_stats"]},
            images,
            train=True,
            rngs={"dropout": jax.random.key(0)},
            mutable=["batch_stats", "auxiliary"],
        )
        total = losses.cross_entropy(logits, labels, 0.0).mean()
        for head in jax.tree.leaves(updated.get("auxiliary", {})):
            total += losses.AUXILIARY_WEIGHT * losses.cross_entropy(head, labels, 0.0).mean()
        return total, updated["batch_stats"]

    (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
    return loss, grads, stats


def errors(found: dict[str, Any], exact: dict[str, Any]) -> dict[str, float]:
    """Return the largest relative error of each kind over the arrays of a net.

    Logits, loss and statistics: max |a - b| / max |b|. Gradients: the same of root mean squares,
    since one rectifier or pooling window on the edge can move single values by much. Some arrays
    are zero but for rounding, such as the gradient of a bias in front of a BatchNorm: none is held
    against less than a hundredth of the largest of its kind in the net.
    """

    def size(kind: str, array: Any) -> float:
        values = np.abs(np.asarray(array, np.float64))
        return float(np.sqrt((values**2).mean()) if kind == "gradient" else values.max())

    largest: dict[str, float] = {}
    for name in found:
        kind = name.partition("/")[0]
        largest[kind] = max(largest.get(kind, 0.0), size(kind, exact[name]))
    worst: dict[str, float] = {}
    for name, array in found.items():
        kind = name.partition("/")[0]
        difference = size(kind, np.asarray(array, np.float64) - exact[name])
        error = difference / max(size(kind, exact[name]), FLOOR * largest[kind])
        worst[kind] = max(worst.get(kind, 0.0), error)
    return worst
