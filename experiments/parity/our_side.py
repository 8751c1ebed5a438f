"""Results of our nets, with the names and array layout of torchvision."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from formula import fill, fill_all
from nets import CLASSES, IMAGES, SIZE, Net

from deeper.models.alexnet import alexnet
from deeper.models.convnext import convnext
from deeper.models.densenet import densenet
from deeper.models.googlenet import googlenet
from deeper.models.inception_v3 import inception_v3
from deeper.models.mobilenet_v2 import mobilenet_v2
from deeper.models.regnet import regnet
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.train import losses
from deeper.train.step import AUXILIARY_WEIGHT
from deeper.weights.torchvision import convert, revert, state_dict_shapes

FLOOR = 0.01
CONSTRUCTORS = (
    alexnet, convnext, densenet, googlenet, inception_v3, mobilenet_v2, regnet, resnet, vgg,
)  # fmt: skip
FAMILIES: dict[str, Any] = {constructor.__name__: constructor for constructor in CONSTRUCTORS}


def logits(net: Net, seed: int) -> np.ndarray:
    """Return the logits of fixed images in evaluation mode."""
    model, variables, images = _inputs(net, seed, SIZE, "float32")
    return np.asarray(jax.jit(_logits, static_argnums=0)(model, variables, images))


def step(net: Net, seed: int, dtype: str) -> dict[str, np.ndarray]:
    """Return the results of one training step, computed in float32 or completely in float64."""
    with jax.enable_x64(dtype == "float64"):
        model, variables, images = _inputs(net, seed, net.step_size, dtype)
        labels = jnp.arange(IMAGES) * 101 % CLASSES
        loss, grads, stats = jax.jit(_step, static_argnums=0)(model, variables, images, labels)
        found = {"loss": np.asarray(loss)}
        theirs = revert({"params": grads, "batch_stats": stats}, model)
    for name, array in theirs.items():
        found[f"{'statistics' if 'running' in name else 'gradient'}/{name}"] = array
    assert {array.dtype for array in found.values()} == {np.dtype(dtype)}
    return found


def _inputs(net: Net, seed: int, size: int, dtype: str):
    model = FAMILIES[net.family](classes=CLASSES, dtype=dtype, **net.arguments)
    variables = convert(fill_all(state_dict_shapes(model), seed), model)
    images = fill("images", (IMAGES, 3, size, size), seed).transpose(0, 2, 3, 1)
    return model, jax.tree.map(lambda array: array.astype(dtype), variables), images.astype(dtype)


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
            total += AUXILIARY_WEIGHT * losses.cross_entropy(head, labels, 0.0).mean()
        return total, updated["batch_stats"]

    (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
    return loss, grads, stats


def largest(values: Any) -> float:
    """Return the largest magnitude."""
    return float(np.abs(np.asarray(values, np.float64)).max())


def root_mean_square(values: Any) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt((np.asarray(values, np.float64) ** 2).mean()))


def error(kind: str, found: dict[str, Any], exact: dict[str, Any], size=largest) -> float:
    """Return the largest relative error size(a - b) / size(b) over the arrays of a kind in a net.

    Some arrays are zero except for rounding, such as the gradient of a bias before a BatchNorm;
    size(b) is therefore at least a hundredth of the largest of its kind in the net.
    """
    names = [name for name in found if name.partition("/")[0] == kind]
    least = FLOOR * max(size(exact[name]) for name in names)
    errors = [
        size(np.asarray(found[name], np.float64) - exact[name]) / max(size(exact[name]), least)
        for name in names
    ]
    return float(np.max(errors))  # Python's max may pass over NaN
