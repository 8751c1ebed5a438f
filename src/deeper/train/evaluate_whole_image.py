"""Evaluation of nets in fully convolutional form on uncropped images, at one or several scales.

Simonyan and Zisserman 2014 (arXiv:1409.1556):

* section 3.2: "We also augment the test set by horizontal flipping of the images; the soft-max
  class posteriors of the original and flipped images are averaged to obtain the final scores";
* section 4.2: "running a model over several rescaled versions of a test image [...], followed by
  averaging the resulting class posteriors".

He et al. 2015 (arXiv:1512.03385), section 3.4: "we adopt the fully-convolutional form as in [41,
13], and average the scores at multiple scales (images are resized such that the shorter side is in
{224, 256, 384, 480, 640})". Reference [41] is the former paper, so its mirror images and averages
of the softmax are used here, too. The average over the positions in an image is taken before the
softmax, by the net itself (`models.fully_convolutional`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float32, Int32, UInt8

from deeper.train import data_parallel
from deeper.train.evaluate import Predictions

PREDICT_BATCH = 4096  # images per call of the task's predict
Batches = Iterable[dict[str, np.ndarray]]
Answer = Callable[[Any, Any, Any], Any]


class WholeEvaluator:
    """Evaluates uncropped images; compiled once for each shape of batch.

    Args:
        answer: (variables, stored images, sizes) -> logits of a net in fully convolutional form.
            Images are padded at the bottom and right; the net masks the padding.
        mesh: the devices.
        form: see `data_parallel.parallelise`.
        mean_over_views: (images -> logits, views) -> logarithm of the mean softmax.
        predict: (log probabilities, batch with ``label``) -> the task's prediction for each image.
    """

    def __init__(
        self,
        answer: Answer,
        mesh: Mesh,
        form: data_parallel.Form,
        mean_over_views: Callable[[Any, Any], Any],
        predict: Callable[[Any, Any], dict[str, Any]],
    ):
        def one_batch(variables, source, batch, count):
            del source, count
            images, sizes = batch["image"][0], batch["size"][0]
            both = jnp.stack([images, mirrored(images, sizes[:, 1])])
            answers = mean_over_views(lambda seen: answer(variables, seen, sizes), both)
            return jax.lax.all_gather(answers, data_parallel.DATA_AXIS, tiled=True)

        self._call = data_parallel.parallelise(one_batch, mesh, form, donate_first=False)
        self._predict = jax.jit(predict)

    def __call__(
        self,
        variables: Any,
        labels: Int32[np.ndarray, " n"],
        scales: Sequence[Batches],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Predictions:
        """Evaluate all images at each scale, and average the probabilities over the scales.

        Args:
            variables: params and batch_stats.
            labels: true classes of the images.
            scales: for each scale, batches with ``image`` uint8 (rows, height, width, channels),
                each image in the upper left; ``size`` int32 (rows, 2), its height and width;
                ``number`` int32 (rows,), its place in ``labels``, -1 for padding rows.
            progress: called with (images seen, total), counted over all scales.

        Raises:
            RuntimeError: the batches of a scale did not contain every image exactly once.
        """
        total = None
        for place, batches in enumerate(scales):

            def tell(done: int, before: int = place * len(labels)) -> None:
                progress(before + done, len(scales) * len(labels))

            answers = self._log_probabilities(variables, batches, len(labels), tell)
            total = answers if total is None else np.logaddexp(total, answers)
        assert total is not None
        total -= np.log(np.float32(len(scales)))
        parts = [
            self._predict(total[a : a + PREDICT_BATCH], {"label": labels[a : a + PREDICT_BATCH]})
            for a in range(0, len(labels), PREDICT_BATCH)
        ]
        return {
            name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]
        }

    def _log_probabilities(
        self, variables: Any, batches: Batches, n: int, tell: Callable[[int], None]
    ) -> Float32[np.ndarray, "n classes"]:
        """Return the log probabilities of each image, in the order of the numbers."""
        collected: np.ndarray | None = None
        seen = np.zeros(n, np.int32)
        pending: list[tuple[np.ndarray, Any]] = []

        def take() -> None:
            nonlocal collected
            numbers, answers = pending.pop(0)
            rows = np.asarray(answers)[numbers >= 0]
            if collected is None:
                collected = np.empty((n, rows.shape[1]), np.float32)
            collected[numbers[numbers >= 0]] = rows
            np.add.at(seen, numbers[numbers >= 0], 1)
            tell(int(seen.sum()))

        for batch in batches:
            feed = {name: batch[name][None] for name in ("image", "size")}
            answers = self._call(variables, (), feed, np.int32(1))
            pending.append((batch["number"], answers))
            if len(pending) > 1:  # the host decodes the next batch while the device computes this
                take()
        while pending:
            take()
        if collected is None or (seen != 1).any():
            raise RuntimeError(
                f"evaluation of whole images saw {(seen == 1).sum()} of {n} examples once, "
                f"{(seen > 1).sum()} more than once"
            )
        return collected


def mirrored(
    images: UInt8[Array, "batch height width channels"], widths: Int32[Array, " batch"]
) -> UInt8[Array, "batch height width channels"]:
    """Mirror images that fill only the first ``widths`` columns of their arrays."""
    place = jnp.arange(images.shape[2])[None]
    source = jnp.where(place < widths[:, None], widths[:, None] - 1 - place, place)
    return jnp.take_along_axis(images, source[:, None, :, None], axis=2)
