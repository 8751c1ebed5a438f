"""``deeper evaluate run=DIRECTORY protocol=NAME``: a checkpoint on a split, every example once."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from omegaconf import DictConfig

from deeper.augment.pipeline import Normalise
from deeper.cli.live_display import bar
from deeper.cli.output_files import check_file
from deeper.cli.terminal import open_console
from deeper.data.encoded_images import Photographs
from deeper.data.whole_image_batches import Headers, decode_groups, groups, headers_of
from deeper.errors import UserError
from deeper.models.fully_convolutional import answer, fits, of_our_layers, over_whole_images
from deeper.record.atomic_files import finite, to_json, write_whole
from deeper.run import data_record, device, load
from deeper.run.build import task_of
from deeper.run.dataset import in_result
from deeper.run.evaluation_set import Examined, open_examined, right_answers
from deeper.run.input_pipeline import streamed_split, workers_of
from deeper.run.protocols import WHOLE, Protocol, protocol_of
from deeper.tasks.classification import answered, calibration_error, error_by_class, mean_over_views
from deeper.track.wandb_results import log_evaluation
from deeper.train import data_parallel
from deeper.train.device_feed import Streamed
from deeper.train.evaluate import Evaluator, Predictions, metrics_of, predictions_of
from deeper.train.evaluate_whole_image import WholeEvaluator

RECORD = "evaluation-{}.json"
SHAPES = 8  # of whole photographs of aspect ratios from 1:1 to 2:1
AT_ONCE = 2**28  # bytes of images that one compiled call is sent
Tell = Callable[[str, int, int], None]


def run(config: DictConfig) -> None:
    """Evaluate a checkpoint and print, and write, its metrics."""
    if config.out is not None:
        check_file(Path(config.out), "out")
    path = Path(config.run)
    of_run = load.config_of(path, "run", data_record.moved_to(config.data))
    if config.batch_size is not None:
        of_run.train.batch_size = config.batch_size
    protocol = protocol_of(config, of_run.data)
    device.start_jax(of_run.train.cpu_kernels)
    examined = open_examined(config, of_run, protocol)
    photographs = examined.split.images
    if config.labels is not None and not isinstance(photographs, Photographs):
        raise UserError(f"labels={config.labels} is for photographs; {examined.data} has none.")
    weights = load.open_stored(path, config.checkpoint, "run")

    told = open_console(stderr=True)
    with bar(told) as progress:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        headers = None
        if isinstance(photographs, Photographs) and (protocol.name in WHOLE or config.labels):
            headers = headers_of(photographs, tell)
        right = None
        if config.labels is not None:
            assert headers is not None
            right = right_answers(Path(config.labels), headers.names, examined)
        if protocol.name in WHOLE:
            assert headers is not None
            found = of_whole_photographs(of_run, weights, protocol, examined, headers, tell)
        else:
            found = of_crops(of_run, weights, protocol, examined, config.split, tell)

    result = {
        "run": str(path),
        "step": weights.step,
        "data": examined.data,
        "split": config.split,
        "protocol": protocol.title,
        "protocol_in_words": protocol.words,
        **protocol.parameters,
        **metrics_of(task_of(of_run), config.split, found),
        f"{config.split}/calibration_error": calibration_error(found),
    }
    if right is not None:
        result |= _by_several_labels(found, right, config.split) | {"labels": str(config.labels)}
    names = examined.class_names
    errors = error_by_class(found, len(names))
    counts = np.bincount(found["label"], minlength=len(names)).tolist()
    whole_result = result | {
        "error_by_class": dict(zip(names, errors, strict=True)),
        "n_by_class": dict(zip(names, counts, strict=True)),
    }
    if examined.unreadable:
        whole_result["unreadable"] = in_result({config.split: examined.unreadable})[config.split]
    text = to_json(whole_result, indent=2)
    if config.out is not None:
        Path(config.out).write_bytes(text)
    if _is_of_record(config, weights.step, path):
        write_whole(path / RECORD.format(re.sub(r"\W+", "-", protocol.title)), text)
    open_console().print(json.dumps(finite(result), indent=2), soft_wrap=True)
    if not (known := answered(found)).all():
        told.print(
            f"{int((~known).sum()):,} of {len(known):,} answers of the net are NaN "
            "or infinite; they count as wrong."
        )
    if config.out is not None:
        Path(config.out).write_bytes(text)
    if config.wandb:
        mode = log_evaluation(path, whole_result, lambda line: told.print(line, soft_wrap=True))
        if mode:
            told.print(f"{protocol.title}: two tables to Weights & Biases, {mode}")


def _is_of_record(config: DictConfig, step: int, path: Path) -> bool:
    """Whether a result is the run's, for a report: its last state, on its own test split."""
    own = not data_record.names_another(config.data) and config.split == "test"
    return own and step == max(load.states(path))


def of_crops(
    of_run: DictConfig,
    weights: load.Stored,
    protocol: Protocol,
    examined: Examined,
    name: str,
    tell: Tell,
) -> Predictions:
    """Evaluate views of one size."""
    shape = tuple(of_run.data.image_shape)
    if protocol.image_shape != shape and not fits(weights.model, shape, protocol.image_shape):
        raise UserError(
            f"size={list(protocol.image_shape[:2])}: the dense layers of this "
            f"{type(weights.model).__name__} take the maps of images of {shape[0]}x{shape[1]} "
            "pixels alone."
        )
    mesh = device.mesh_of(of_run.train.devices)
    batch_size = of_run.train.batch_size
    data_parallel.check_divisible(batch_size, mesh.devices.size)
    form, workers = of_run.train.parallel, workers_of(of_run.data)
    split = streamed_split(name, examined.split, batch_size, mesh, form, workers)
    at_once = AT_ONCE // (batch_size * int(np.prod(protocol.shown)))
    task, views = task_of(of_run), protocol.views
    predict = predictions_of(weights.model, task)
    if views is not None:

        def predict(variables: Any, batch: Any) -> Any:
            def logits_of(images: Any) -> Any:
                return weights.model.apply(variables, task.normalise(images), train=False)

            return task.predict(mean_over_views(logits_of, views(batch["image"])), batch)

    evaluate = Evaluator(
        predict,
        mesh,
        form,
        Streamed.take,
        batches_per_call=max(1, min(16, split.batches, at_once)),
    )
    variables = data_parallel.replicate(weights.variables, mesh)
    try:
        return evaluate(variables, split, lambda done, total: tell("batches", done, total))
    finally:
        split.feed.close()


def of_whole_photographs(
    of_run: DictConfig,
    weights: load.Stored,
    protocol: Protocol,
    examined: Examined,
    headers: Headers,
    tell: Tell,
) -> Predictions:
    """Evaluate photographs whole; a batch has about as many pixels as one of training."""
    mesh = device.mesh_of(of_run.train.devices)
    height, width, _ = of_run.data.image_shape
    pixels = of_run.train.batch_size * height * width
    net = over_whole_images(weights.model, of_run.data.image_shape)
    normalise = Normalise(tuple(of_run.data.mean), tuple(of_run.data.std))

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
    photographs, workers = examined.split.images, workers_of(of_run.data).count
    assert isinstance(photographs, Photographs)
    evaluate = WholeEvaluator(
        answer_to, mesh, of_run.train.parallel, mean_over_views, task_of(of_run).predict
    )
    shapes = sum(map(len, by_scale.values()))
    return evaluate(
        data_parallel.replicate(weights.variables, mesh),
        np.asarray(examined.split.labels),
        [
            decode_groups(photographs, headers, some, side, workers)
            for side, some in by_scale.items()
        ],
        lambda done, total: tell(f"{shapes} shapes", done, total),
    )


def _by_several_labels(
    found: Predictions, right: Bool[np.ndarray, "n classes"], split: str
) -> dict[str, Any]:
    """Return the error where any of several answers is right; what has none is left out."""
    labelled = right.any(axis=1)
    if not labelled.any():
        raise UserError("No photograph of those evaluated has a label in the file of labels=.")
    hits = right[np.arange(len(right)), found["prediction"]] & answered(found)
    correct = hits[labelled]
    return {
        f"{split}/real_error": 100.0 * (1.0 - float(correct.mean())),
        f"{split}/real_n_seen": int(labelled.sum()),
        f"{split}/real_left_out": int((~labelled).sum()),
    }
