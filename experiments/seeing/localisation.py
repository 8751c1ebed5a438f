"""Measures how well Grad-CAM localises one of two garments in an image.

    python experiments/seeing/localisation.py RUN

Two test images of different classes, which the net classifies correctly, are joined to one image of
twice the width. The share of Grad-CAM's mass in the half of the requested class is written to
localisation.json; 0.5 would mean no localisation.
"""

import json
import sys
from pathlib import Path

from deeper.xla_flags import set_flags

set_flags()

import jax
import jax.numpy as jnp
import numpy as np

from deeper.augment.pipeline import Normalise
from deeper.interpret.attribution_methods import grad_cam
from deeper.interpret.traced_net import TracedNet
from deeper.run import device, load
from deeper.run.dataset import open_splits

PAIRS, LOOKED_AT = 500, 3000


def main() -> None:
    """Join pairs of images, compute Grad-CAM for both classes, and write the shares."""
    run = Path(sys.argv[1])
    config = load.config_of(run, "run")
    device.start_jax(config.train.cpu_kernels)
    weights = load.open_stored(run, "last", "run")
    test = open_splits(config).test
    normalise = Normalise(tuple(config.data.mean), tuple(config.data.std))
    images, labels = np.asarray(test.images[:LOOKED_AT]), np.asarray(test.labels[:LOOKED_AT])

    @jax.jit
    def answer(some):
        return weights.model.apply(weights.variables, normalise(some), train=False).argmax(-1)

    right = np.flatnonzero(np.asarray(answer(jnp.asarray(images))) == labels)
    rng = np.random.default_rng(0)
    pairs = rng.permutation(right)[: len(right) // 2 * 2].reshape(-1, 2)
    pairs = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]][:PAIRS]
    both = np.concatenate([images[pairs[:, 0]], images[pairs[:, 1]]], axis=2)
    net = TracedNet(weights.model, weights.variables, both.shape[1:])
    layer = net.stages[-1]
    heat_of = jax.jit(lambda some, classes: grad_cam(net, some, classes, layer))
    shares = []
    for side in (0, 1):
        classes = jnp.asarray(labels[pairs[:, side]])
        small = heat_of(normalise(jnp.asarray(both)), classes)
        heat = np.asarray(jax.image.resize(small, both.shape[:3], "linear"))
        halves = np.stack(np.split(heat, 2, axis=2), axis=1).sum(axis=(2, 3))
        seen = halves.sum(axis=1) > 0  # the map is empty if no pixel supports the class
        shares.append(halves[seen, side] / halves[seen].sum(axis=1))
    found = np.concatenate(shares)
    result = {
        "net": str(config.label),
        "pairs": len(pairs),
        "maps": len(found),
        "empty_maps": 2 * len(pairs) - len(found),
        "mean_share_in_own_half": float(found.mean()),
        "median_share_in_own_half": float(np.median(found)),
        "own_half_holds_most": float((found > 0.5).mean()),
    }
    text = json.dumps(result, indent=1)
    print(text)
    (Path(__file__).parent / "localisation.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
