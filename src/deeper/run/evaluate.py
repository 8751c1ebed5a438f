"""Evaluates a checkpoint on a split, every example once, by a protocol."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from deeper.config.data_sections import OwnDataset
from deeper.config.schema import RunConfig
from deeper.data.encoded_images import Photographs
from deeper.data.whole_image_batches import Headers, decode_groups, groups, headers_of
from deeper.errors import UserError
from deeper.models.fully_convolutional import answer, fits, of_our_layers, over_whole_images
from deeper.progress import Progress, quiet
from deeper.record.atomic_files import to_json, write_whole
from deeper.record.schema import EVALUATION
from deeper.run import device, load, net_record
from deeper.run.build import task_of
from deeper.run.dataset import in_result
from deeper.run.evaluation_set import EvaluationSet, correct_labels, open_evaluation_set
from deeper.run.input_pipeline import streamed_split, workers_of
from deeper.run.protocols import WHOLE, Protocol, ProtocolRequest, protocol_of
from deeper.tasks.classification import Classification, answered, mean_over_views
from deeper.tasks.consistency import ConsistencyTraining
from deeper.train import data_parallel
from deeper.train.device_feed import Streamed
from deeper.train.evaluate import Evaluator, Predictions, metrics_of, predictions_of
from deeper.train.evaluate import Split as EvaluatedSplit
from deeper.train.evaluate_whole_image import WholeEvaluator

SHAPES = 8  # number of padded shapes for aspect ratios from 1:1 to 2:1
BYTES_PER_CALL = 2**28  # bytes of images per compiled call


def evaluate_run(
    path: Path,
    config: RunConfig,
    *,
    request: ProtocolRequest | None = None,
    split: str = "test",
    checkpoint: str | int = "last",
    other: Any = None,
    labels: Path | None = None,
    batch_size: int | None = None,
    only: str | None = None,
    results: Path | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Evaluate a checkpoint.

    The result of a run's last checkpoint on its own test split is written to
    ``evaluation-PROTOCOL.json`` in the run directory, which reports read.

    Args:
        path: the run directory.
        config: the run's.
        request: the protocol; by default 1crop.
        split: train, validation or test, or a split of the other data set.
        checkpoint: last, best or a step.
        other: ``data`` section of another data set of the same classes; None for the run's own.
        labels: a file of several right answers a photograph, as ImageNet ReaL's.
        batch_size: examples at a time; by default the run's.
        only: "subset" restricts the answers to the classes that the other data have, as in the
            protocols of ImageNet-A and ImageNet-R; None allows all classes of the net.
        results: a JSON file to write what the net says of each example to, in the format of the
            data set: see `Task`.
        progress: called with the progress.

    Returns:
        The metrics by names such as ``test/error``, and how they were measured, with the task's
        `details`: of classification the calibration error, ``error_by_class``, ``n_by_class``.

    Raises:
        UserError: the protocol, the split or the labels do not fit the run.
    """
    if only not in (None, "subset"):
        raise UserError(f"only={only}: give subset, or leave it out.")
    if net_record.is_import(path):
        net_record.require_trained_head(net_record.read(path, config), path)
    if batch_size is not None:
        config = config.replace({"train.batch_size": batch_size})
    protocol = protocol_of(request or ProtocolRequest(), config.data)
    written = getattr(task_of(config), "results", None)
    if results is not None and written is None:
        raise UserError(
            f"results={results} is for data sets with a format of results, as COCO's; "
            f"{config.data.name} has none."
        )
    device.start_jax(config.train.cpu_kernels)
    evaluation_set = open_evaluation_set(path, config, protocol, split, other, progress)
    photographs = evaluation_set.split.columns.get("image")
    if labels is not None and not isinstance(photographs, Photographs):
        raise UserError(f"labels={labels} is for photographs; {evaluation_set.data} has none.")
    weights = load.open_stored(path, checkpoint, "run")
    headers = None
    if isinstance(photographs, Photographs) and (protocol.name in WHOLE or labels):
        headers = headers_of(photographs, progress)
    right = None
    if labels is not None:
        assert headers is not None
        right = correct_labels(labels, headers.names, evaluation_set)
    if protocol.name in WHOLE:
        assert headers is not None
        rows = of_whole_photographs(
            config, weights, protocol, evaluation_set, headers, progress, only=bool(only)
        )
    else:
        rows = of_crops(config, weights, protocol, evaluation_set, split, progress, only=bool(only))
    task = task_of(config)
    if only and evaluation_set.subset is None:
        raise UserError(f"only=subset: {evaluation_set.data} has all of this net's classes.")
    if results is not None and written is not None:
        data = config.data if other is None else other
        write_whole(results, to_json(written(rows, data.call, split)))
    result = {
        "run": str(path),
        "step": weights.step,
        "data": evaluation_set.data,
        "split": split,
        "protocol": protocol.title,
        "protocol_in_words": protocol.words,
        **protocol.parameters,
        **metrics_of(task, split, rows),
    }
    details = getattr(task, "details", None)
    if details is not None:
        told = details(rows, evaluation_set.class_names)
        by_class = {name: value for name, value in told.items() if isinstance(value, dict)}
        result |= {f"{split}/{name}": told[name] for name in told if name not in by_class}
        if right is not None:
            result |= _by_several_labels(rows, right, split) | {"labels": str(labels)}
        result |= by_class
    if evaluation_set.subset is not None:
        result["classes_in_data"] = len(evaluation_set.subset)
        result["classes_of_net"] = len(evaluation_set.class_names)
        result["chosen_among"] = "the classes in the data" if only else "all classes of the net"
    if evaluation_set.unreadable:
        result["unreadable"] = in_result({split: evaluation_set.unreadable})[split]
    if other is None and split == "test" and weights.step == max(load.states(path)):
        name = EVALUATION.format(re.sub(r"\W+", "-", protocol.title))
        write_whole(path / name, to_json(result, indent=2))
    return result


def of_crops(
    config: RunConfig,
    weights: load.Stored,
    protocol: Protocol,
    evaluation_set: EvaluationSet,
    name: str,
    progress: Progress,
    only: bool = False,
    scores: bool = False,
) -> Predictions:
    """Evaluate examples as stored, or views of one size; see `evaluator_of_crops`."""
    evaluate, variables, split = evaluator_of_crops(
        config, weights, protocol, evaluation_set, name, only=only, scores=scores
    )
    return evaluate(variables, split, lambda done, total: progress("batches", done, total))


def evaluator_of_crops(
    config: RunConfig,
    weights: load.Stored,
    protocol: Protocol,
    evaluation_set: EvaluationSet,
    name: str,
    *,
    only: bool = False,
    scores: bool = False,
) -> tuple[Evaluator, Any, EvaluatedSplit]:
    """Return what evaluates examples as stored, or views of one size.

    Args:
        config: of the run.
        weights: of a checkpoint.
        protocol: one of CROPS.
        evaluation_set: the examples.
        name: of the split.
        only: choose among the classes that the data have alone.
        scores: keep each example's outputs of the net, as ``scores``.

    Returns:
        The evaluator, its variables, and the split.
    """
    shape = config.data.example[0]
    size: Any = protocol.image_shape
    resized = not isinstance(config.data, OwnDataset) and size != shape
    if resized and not fits(weights.model, shape, size):
        raise UserError(
            f"size={list(size[:2])}: the dense layers of this {type(weights.model).__name__} take "
            f"the maps of images of {shape[0]}x{shape[1]} pixels alone."
        )
    mesh = device.mesh_of(config.train.devices)
    batch_size = config.train.batch_size
    data_parallel.check_divisible(batch_size, mesh.devices.size)
    form, workers = config.train.parallel, workers_of(config.data)
    split = streamed_split(name, evaluation_set.split, batch_size, mesh, form, workers)
    at_once = BYTES_PER_CALL // (batch_size * int(np.prod(protocol.shown or shape)))
    task, views = task_of(config), protocol.views
    keep = _predict_of(task, evaluation_set, only)
    if scores:
        keep = _with_scores(keep)
    shown: Any = SimpleNamespace(inputs=task.inputs, predict=keep)
    predict: Callable[[Any, Any], dict[str, Any]] = predictions_of(weights.model, shown)
    if views is not None:
        normalise = _normalise_of(task)

        def predict(variables: Any, batch: Any) -> dict[str, Any]:
            def logits_of(images: Any) -> Any:
                return weights.model.apply(variables, normalise(images), train=False)

            return keep(mean_over_views(logits_of, views(batch["image"])), batch)

    evaluate = Evaluator(
        predict,
        mesh,
        form,
        Streamed.take,
        batches_per_call=max(1, min(16, split.batches, at_once)),
    )
    return evaluate, data_parallel.replicate(weights.variables, mesh), split


def _predict_of(
    task: Any, evaluation_set: EvaluationSet, only: bool
) -> Callable[[Any, Any], dict[str, Any]]:
    """Return the task's ``predict``, which with ``only`` sees no class that the data have not."""
    if not only or evaluation_set.subset is None:
        return task.predict
    among = np.zeros(len(evaluation_set.class_names), bool)
    among[list(evaluation_set.subset)] = True

    def predict(scores: Any, batch: Any) -> dict[str, Any]:
        return task.predict(jnp.where(among[None], scores, -jnp.inf), batch)

    return predict


def _with_scores(
    predict: Callable[[Any, Any], dict[str, Any]],
) -> Callable[[Any, Any], dict[str, Any]]:
    return lambda outputs, batch: predict(outputs, batch) | {"scores": outputs}


def _normalise_of(task: Any) -> Callable[[Any], Any]:
    if isinstance(task, ConsistencyTraining):
        return task.labelled.normalise
    if isinstance(task, Classification):
        return task.normalise
    raise UserError("Protocols of several views are for classification; choose protocol=1crop.")


def of_whole_photographs(
    config: RunConfig,
    weights: load.Stored,
    protocol: Protocol,
    evaluation_set: EvaluationSet,
    headers: Headers,
    progress: Progress,
    only: bool = False,
) -> Predictions:
    """Evaluate whole photographs; a batch has about as many pixels as a training batch."""
    mesh = device.mesh_of(config.train.devices)
    height, width, _ = config.data.image_shape
    pixels = config.train.batch_size * height * width
    net = over_whole_images(weights.model, config.data.image_shape)
    task = task_of(config)
    normalise = _normalise_of(task)

    def answer_to(variables: Any, images: Any, sizes: Any) -> Any:
        return answer(net, variables, normalise(images), sizes)

    by_scale = {
        shorter: groups(
            headers.sizes,
            shorter,
            pixels,
            mesh.devices.size,
            SHAPES if of_our_layers(net) else None,
        )
        for shorter in protocol.scales
    }
    photographs, workers = evaluation_set.split.images, workers_of(config.data).count
    assert isinstance(photographs, Photographs)
    keep = _predict_of(task, evaluation_set, only)
    evaluate = WholeEvaluator(answer_to, mesh, config.train.parallel, mean_over_views, keep)
    shapes = sum(map(len, by_scale.values()))
    return evaluate(
        data_parallel.replicate(weights.variables, mesh),
        np.asarray(evaluation_set.split.labels),
        [
            decode_groups(photographs, headers, some, side, workers)
            for side, some in by_scale.items()
        ],
        lambda done, total: progress(f"{shapes} shapes", done, total),
    )


def _by_several_labels(
    rows: Predictions, right: Bool[np.ndarray, "n classes"], split: str
) -> dict[str, Any]:
    """Return the error if any of several labels is correct; photographs without labels are left
    out.
    """
    labelled = right.any(axis=1)
    if not labelled.any():
        raise UserError("No photograph of those evaluated has a label in the file of labels=.")
    hits = right[np.arange(len(right)), rows["prediction"]] & answered(rows)
    correct = hits[labelled]
    return {
        f"{split}/real_error": 100.0 * (1.0 - float(correct.mean())),
        f"{split}/real_n_seen": int(labelled.sum()),
        f"{split}/real_left_out": int((~labelled).sum()),
    }
