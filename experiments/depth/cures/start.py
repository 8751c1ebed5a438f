"""What plain nets are like at the start, and what the cures of depth_cures change.

    .venv/bin/python experiments/depth/cures/start.py DATA

DATA is the directory of the prepared data sets. For each arm of conf/study/depth_cures.yaml at 44
layers, before the first step, on one batch of the training split, normalised by the batch as in
training, and over three seeds (geometric means):

- the root mean square of each layer's values, and of the loss's gradient by them
  (`deeper.interpret.gradient_scales`);
- the singular values of the Jacobian of the ten logits, summed over the batch, by the values of the
  first convolution for each image; the mean over images. A net whose singular values are few
  orders apart passes differences of the input on (Saxe et al. 2013, Pennington et al. 2017).

Writes start.json and start.png.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import deeper
from deeper.data.dataset import open_dataset
from deeper.interpret.gradient_scales import Measure
from deeper.interpret.traced_net import LOGITS, TracedNet
from deeper.models.initializers import initialise
from deeper.plotting import COLOURS, STYLE
from deeper.run import build

HERE = Path(__file__).parent
DEPTH, BATCH, SEEDS = 44, 64, (0, 1, 2)
KEYS = ("activation", "gradient", "singular")
ARMS = {
    "cure_none": "plain",
    "cure_orthonormal": "plain, orthonormal kernels",
    "cure_shortcuts": "shortcuts",
    "cure_zero": "shortcuts, last scale 0",
}


def singular_values(model: Any, variables: Any, images: Any) -> np.ndarray:
    """Return the ten singular values of each image's Jacobian, the mean over the images."""
    traced = TracedNet(model, variables, images.shape[1:], train=True)
    first = traced.trunk[0]

    @jax.jit
    def jacobian(variables: Any, images: Any) -> Any:
        net = TracedNet(model, variables, images.shape[1:], train=True)

        def logits(added: Any) -> Any:
            return net(images, [LOGITS], added={first: added})[LOGITS].sum(axis=0)

        return jax.jacrev(logits)(jnp.zeros((len(images), *net.shapes[first])))

    by_image = np.moveaxis(np.asarray(jacobian(variables, images)), 1, 0)
    flat = by_image.reshape(len(images), by_image.shape[1], -1)
    return np.linalg.svd(flat, compute_uv=False).mean(axis=0)


def measured(arm: str, data: Path) -> dict[str, Any]:
    """Return the numbers of one arm."""
    config = deeper.configure("study=depth_cures", f"arm={arm}", f"model.depth={DEPTH}")
    model, task = build.build_model(config), build.task_of(config)
    train = open_dataset("fashion_mnist", data).splits["train"]
    images = task.normalise(jnp.asarray(train.images[:BATCH]))
    labels = jnp.asarray(train.labels[:BATCH])
    parts: dict[str, list[np.ndarray]] = {key: [] for key in KEYS}
    measure = None
    for seed in SEEDS:
        variables = initialise(model, seed, build.example_of(config))
        measure = measure or Measure(model, variables, images, labels)
        scales = measure(variables)
        parts["activation"].append(scales.activation)
        parts["gradient"].append(scales.gradient)
        parts["singular"].append(singular_values(model, variables, images))
    assert measure is not None
    means = {
        name: np.exp(np.log(np.maximum(values, 1e-30)).mean(axis=0))
        for name, values in parts.items()
    }
    numbers = {name: [float(f"{v:.4g}") for v in values] for name, values in means.items()}
    return {"depths": [*map(int, measure.depths)], **numbers}


def draw(found: dict[str, dict[str, Any]], out: Path) -> None:
    """Draw the three quantities, a line an arm."""
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):
        figure = Figure(figsize=(10.5, 4.1), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, 3)
        titles = ("Values", "Gradient by the values", "Singular values, logits by conv1")
        for axes, key, title in zip(panels, KEYS, titles):
            for colour, (arm, words) in zip(COLOURS, ARMS.items()):
                # Of nothing but shortcuts of option A, 8 channels are no more than 8 directions.
                values = [value if value > 1e-9 else np.nan for value in found[arm][key]]
                xs = found[arm]["depths"] if key != "singular" else range(1, len(values) + 1)
                axes.plot(xs, values, "o-", color=colour, ms=2.5, lw=1.4, label=words)
            axes.set_yscale("log")
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("layer" if key != "singular" else "singular value")
        panels[0].set_ylabel("root mean square")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        figure.savefig(out, metadata={"Software": None})


def main() -> None:
    """Measure the arms; write start.json and start.png."""
    found = {arm: measured(arm, Path(sys.argv[1])) for arm in ARMS}
    text = json.dumps({"depth": DEPTH, "seeds": SEEDS, "arms": found}, indent=1)
    (HERE / "start.json").write_text(text + "\n", encoding="utf-8")
    draw(found, HERE / "start.png")
    for arm, numbers in found.items():
        ends = (f"{key} {numbers[key][0]:.3g} to {numbers[key][-1]:.3g}" for key in KEYS)
        print(f"{ARMS[arm]}: {', '.join(ends)}")


if __name__ == "__main__":
    main()
