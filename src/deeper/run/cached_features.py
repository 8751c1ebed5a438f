"""Precomputed features, for runs that train only the last layer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from deeper.augment.pipeline import Normalise
from deeper.config.schema import RunConfig
from deeper.data.dataset import Split
from deeper.data.encoded_images import Photographs
from deeper.interpret.features import cached, extract, inputs_of
from deeper.progress import Progress, quiet
from deeper.run.build import Plan
from deeper.run.dataset import Splits
from deeper.train.data_parallel import DATA_AXIS, replicate

BATCH = 256  # a device


def featured(
    config: RunConfig,
    plan: Plan,
    splits: Splits,
    variables: dict[str, Any],
    mesh: Mesh,
    progress: Progress = quiet,
) -> Splits:
    """Return the splits with the inputs of the net's last layer instead of images.

    The features are cached in ``<runs>/.features``, under a name that is a function of the weights,
    the images and their normalisation.
    """
    assert plan.stages is not None
    layer = plan.stages.head
    apply = inputs_of(plan.model, layer)
    normalise = Normalise(tuple(config.data.mean), tuple(config.data.std))
    trunk = {name: tree for name, tree in variables["params"].items() if name != layer}
    weights = jax.tree.leaves((trunk, variables.get("batch_stats", {})))
    text = f"{type(plan.model).__name__} {layer} {normalise} {config.model}"
    on_devices = replicate(variables, mesh)
    by_rows = NamedSharding(mesh, PartitionSpec(DATA_AXIS))

    def of(split: Split, name: str) -> Split:
        def make() -> np.ndarray:
            return extract(
                apply,
                on_devices,
                split.images,
                normalise,
                batch_size=BATCH * mesh.devices.size,
                place=lambda batch: jax.device_put(batch, by_rows),
                progress=lambda done: progress(f"features of {name}", done, len(split)),
            )

        images = split.images
        shown = images.identity if isinstance(images, Photographs) else np.asarray(images)
        facts = [text, shown, *map(np.asarray, weights)]
        features = cached(Path(config.runs) / ".features", facts, make)
        return split.with_columns(image=features)

    return replace(
        splits,
        train=of(splits.train, "train"),
        validation=None if splits.validation is None else of(splits.validation, "validation"),
        test=of(splits.test, "test"),
    )
