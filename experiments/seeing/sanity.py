"""Write sanity.json: attribution maps after the layers are randomised from the top down.

Adebayo et al. 2018 (arXiv:1810.03292), section 3.1, cascading randomisation: Spearman's correlation
of the magnitudes of a map with those of the trained net, for the same class. A method whose maps do
not depend on the weights does not explain the net.

    python experiments/seeing/sanity.py runs/depth_fashion/resnet20-s0-776dfc86
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

from deeper.augment.pipeline import Normalise
from deeper.interpret import attribution_methods as methods
from deeper.interpret.traced_net import TracedNet
from deeper.models.initializers import initialise
from deeper.run import device, load
from deeper.run.dataset import open_splits

HERE = Path(__file__).parent
IMAGES, SEED = 64, 1
CASCADE = ("fc", "stage3", "stage2", "stage1", "bn1", "conv1")  # from the last layer to the first


def main(run: Path) -> None:
    """Compute the correlations, and write sanity.json."""
    device.start_jax(cpu_kernels=True)
    weights = load.open_stored(run, "last", "run")
    data = weights.config.data
    shape = tuple(data.image_shape)
    test = open_splits(weights.config).test
    images = Normalise(tuple(data.mean), tuple(data.std))(jnp.asarray(test.images[:IMAGES]))
    classes = jnp.asarray(test.labels[:IMAGES])
    fresh = initialise(weights.model, SEED, shape)

    def maps(net):
        key, layer = jax.random.key(0), net.stages[-1]
        rules = {"gradient": "gradient", "guided backprop": "guided", "deconvnet": "deconvnet"}
        found = {
            name: jax.jit(lambda x, r=rule: methods.gradient(net, x, classes, r))(images)
            for name, rule in rules.items()
        }
        found["integrated gradients"] = methods.integrated_gradients(net, images, classes, 32)
        found["SmoothGrad"] = methods.smooth_grad(net, images, classes, key, samples=32)
        found["Grad-CAM"] = jax.jit(lambda x: methods.grad_cam(net, x, classes, layer))(images)
        return {name: np.abs(np.asarray(m)).reshape(IMAGES, -1) for name, m in found.items()}

    now = jax.tree.map(np.asarray, weights.variables)
    trained = maps(TracedNet(weights.model, now, shape))
    result = {"net": run.name, "step": weights.step, "images": IMAGES, "drawn_anew_down_to": {}}
    for layer in CASCADE:
        now = {
            kind: {k: fresh[kind][k] if k == layer else v for k, v in layers.items()}
            for kind, layers in now.items()
        }
        found = maps(TracedNet(weights.model, now, shape))
        result["drawn_anew_down_to"][layer] = {
            name: round(float(np.nanmean([
                spearmanr(a, b).statistic
                for a, b in zip(trained[name], found[name], strict=True)
                if a.any() and b.any()
            ] or [np.nan])), 3)
            for name in found
        }  # fmt: skip
        print(layer, result["drawn_anew_down_to"][layer])
    (HERE / "sanity.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
