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


def errors(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """Return the largest relative error of each kind, |a - b| / max |b|, array by array.

    Some gradients are zero but for rounding, as that of a bias in front of a BatchNorm: an array
    is held against at least a hundredth of the largest value that its kind has in the net.
    """
    largest: dict[str, float] = {}
    for name in ours:
        kind = name.partition("/")[0]
        largest[kind] = max(largest.get(kind, 0.0), float(np.abs(theirs[name]).max()))
    worst: dict[str, float] = {}
    for name, a in ours.items():
        kind, b = name.partition("/")[0], np.asarray(theirs[name], np.float64)
        scale = max(float(np.abs(b).max()), FLOOR * largest[kind])
        error = float(np.abs(np.asarray(a, np.float64) - b).max()) / scale
        worst[kind] = max(worst.get(kind, 0.0), error)
    return worst
