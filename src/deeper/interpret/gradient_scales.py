"""How large a net's activations and gradients are, layer by layer, in the state that training has.

He et al. 2015 (arXiv:1512.03385, section 4.1) argue that BatchNorm keeps both healthy in plain
nets, so that their failure is none of vanishing; this is how to look.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from deeper.interpret.traced_net import LOGITS, Images, TracedNet


class Scales(NamedTuple):
    """What a batch says of each layer.

    Attributes:
        layers: their names.
        depths: of each, in layers with weights.
        activation: root mean square of its values.
        gradient: root mean square over examples of the norm of the loss's gradient by its values.
    """

    layers: list[str]
    depths: list[int]
    activation: Float[np.ndarray, " layers"]
    gradient: Float[np.ndarray, " layers"]

    def rounded(self) -> dict[str, list[float]]:
        """Return the numbers to four digits."""
        parts = {"activation": self.activation, "gradient": self.gradient}
        return {name: [float(f"{v:.4g}") for v in values] for name, values in parts.items()}


class Measure:
    """Measures a net with whatever variables, compiled once.

    Args:
        model: the net.
        variables: any, for their shapes.
        images: normalised; the net normalises by this batch, as in training.
        labels: their classes.
    """

    def __init__(
        self, model: nn.Module, variables: dict, images: Images, labels: Int[Array, " batch"]
    ):
        shape = images.shape[1:]
        traced = TracedNet(model, variables, shape, train=True)
        self.layers = traced.trunk
        self.depths = [traced.depths[layer] for layer in self.layers]
        self._images = images
        n = len(images)

        @jax.jit
        def scales(variables, images):
            net = TracedNet(model, variables, shape, train=True)

            def loss(added):
                found = net(images, [*self.layers, LOGITS], added=added)
                each = optax.softmax_cross_entropy_with_integer_labels(found[LOGITS], labels)
                return each.sum(), {layer: found[layer] for layer in self.layers}

            zeros = {layer: jnp.zeros((n, *net.shapes[layer])) for layer in self.layers}
            gradients, values = jax.grad(loss, has_aux=True)(zeros)
            activation = [jnp.sqrt((values[layer] ** 2).mean()) for layer in self.layers]
            gradient = [jnp.sqrt((gradients[layer] ** 2).sum() / n) for layer in self.layers]
            return jnp.stack(activation), jnp.stack(gradient)

        self._scales = scales

    def __call__(self, variables: dict) -> Scales:
        """Return the scales of the net with these variables."""
        found = self._scales(jax.tree.map(jnp.asarray, variables), self._images)
        return Scales(self.layers, self.depths, *(np.asarray(part, np.float64) for part in found))
