"""Computes a layer's features of a data set, for probes and for export."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32

from deeper.augment.pipeline import Normalise
from deeper.config.data_sections import OwnDataset
from deeper.config.schema import RunConfig
from deeper.errors import UserError
from deeper.interpret.features import extract, inputs_of, outputs_of
from deeper.profile.stages import stages_of
from deeper.progress import Progress, quiet
from deeper.run import build, data_record, device, load, net_record
from deeper.run.dataset import open_splits
from deeper.train.data_parallel import replicate
from deeper.train.evaluate import no_keys


@dataclass(frozen=True)
class Features:
    """A layer's features of the training and the test split.

    Attributes:
        layer: name of the layer, or of the layer whose input is used.
        step: step of the checkpoint.
        data: name of the data set.
        train: features of the training split.
        train_labels: labels of the training split.
        test: features of the test split.
        test_labels: labels of the test split.
        class_names: class names of the data set.
    """

    layer: str
    step: int
    data: str
    train: Float32[np.ndarray, "n features"]
    train_labels: Int32[np.ndarray, " n"]
    test: Float32[np.ndarray, "m features"]
    test_labels: Int32[np.ndarray, " m"]
    class_names: tuple[str, ...]

    def write(self, out: Path, run: Path) -> None:
        """Write the features, labels and their origin to an .npz file.

        Args:
            out: path of the file.
            run: the run directory, whose name is stored.
        """
        arrays: dict[str, Any] = {
            "train_features": self.train,
            "test_features": self.test,
            "train_labels": self.train_labels,
            "test_labels": self.test_labels,
            "class_names": self.class_names,
            "layer": self.layer,
            "run": str(run),
        }
        np.savez(out, **arrays)


def features_of_run(
    path: Path,
    *,
    layer: str | None = None,
    checkpoint: str | int = "last",
    examples: int | None = None,
    draw: int = 0,
    other: Mapping[str, Any] | None = None,
    batch_size: int = 256,
    data_dir: str | None = None,
    progress: Progress = quiet,
) -> Features:
    """Return a layer's features of the run's data set, or of another data set.

    Args:
        path: the run directory.
        layer: a stage or a layer; by default the input of the last layer.
        checkpoint: last, best or a step.
        examples: number of training examples, the same share of each class.
        draw: seed of the choice of examples.
        other: ``data`` section of another data set; None for the run's own.
        batch_size: images at a time.
        data_dir: present directory of the run's own data.
        progress: called with the progress.

    Raises:
        UserError: the layer does not exist, the images do not fit, the features are not finite, or
            the other data's tokens are not the net's.
    """
    weights = load.open_stored(path, checkpoint, "run", data_dir)
    config = weights.config
    device.start_jax(config.train.cpu_kernels)
    # Other data are normalised like the images that the net was trained on.
    normalise, plain = _inputs_of_net(config), config.plain()
    own = isinstance(config.data, OwnDataset)
    if other is not None:
        if ("_target_" in other) != own:
            raise UserError(
                f"data={other['name']} is of another kind than {config.data.name}, the run's own."
            )
        if not own and list(other["image_shape"]) != list(config.data.image_shape):
            raise UserError(
                f"data={other['name']} has images of {list(other['image_shape'])}, the run was "
                f"trained on {list(config.data.image_shape)}."
            )
        plain["data"] = dict(other)
    plain["data"] |= {"examples": examples, "draw": draw}
    plain["train"] |= {"consistency": None, "views": None}
    shown = RunConfig.of(plain)
    if other is None:
        splits = data_record.open_own_splits(path, shown, progress)
    else:
        splits = open_splits(shown, progress)
        data_record.require_same_vocabulary(path, splits.dataset, "run")
    if any("label" not in split.columns for split in (splits.train, splits.test)):
        raise UserError(
            f"deeper features tells classes apart by a column label, which {shown.data.name} has "
            "not. In Python, deeper.load(run).net() is the net with its variables."
        )
    model = weights.model
    if layer is None:
        head = stages_of(model, build.example_of(config)).head
        random = [one for one in net_record.read(path, config).new_layers if one != head]
        if random:
            raise UserError(
                f"{path} has random values in {', '.join(random)}, as its file has none: say layer="
                "one of the stages in front of them."
            )
        name, apply = f"input of {head}", inputs_of(model, head)
    else:
        name, apply = layer, outputs_of(model, layer)
    variables = replicate(weights.variables, device.one())
    values = {}
    for part, split in (("train", splits.train), ("test", splits.test)):
        total = len(split)

        def tell(done: int, part: str = part, total: int = total) -> None:
            progress(f"features of {part}", done, total)

        values[part] = extract(
            apply,
            variables,
            split.columns if own else split.images,
            normalise,
            batch_size=batch_size,
            progress=tell,
        )
    if not all(np.isfinite(array).all() for array in values.values()):
        raise UserError(f"{name} of {path}, step {weights.step}, says NaN or infinity of images.")
    return Features(
        name,
        weights.step,
        shown.data.name,
        values["train"],
        np.asarray(splits.train.labels),
        values["test"],
        np.asarray(splits.test.labels),
        splits.dataset.class_names,
    )


def _inputs_of_net(config: RunConfig) -> Callable[[Any], Any]:
    """Return stored examples -> the net's inputs: of images, or of the columns of a batch."""
    if not isinstance(config.data, OwnDataset):
        return Normalise(tuple(config.data.mean), tuple(config.data.std))
    task = build.task_of(config)

    def inputs(columns: Any) -> Any:
        count = len(next(iter(columns.values())))
        batch = columns | {"mask": jnp.ones(count, bool)}
        taken, *_ = task.inputs(no_keys, jnp.arange(count), batch, train=False)
        return taken

    return inputs
