"""Figures that compare layers, of one net or two: probes, similarity, scales by training step."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deeper.errors import UserError
from deeper.interpret import drawing
from deeper.interpret.cka import cka
from deeper.interpret.features import Stored, channel_means
from deeper.interpret.gradient_scales import Measure, Scales
from deeper.interpret.probes import logistic
from deeper.interpret.subject import BATCH, Subject, batches_of
from deeper.interpret.traced_net import LOGITS, TracedNet


def similarity(subject: Subject, other: Subject, out: Path) -> None:
    """Draw linear CKA between all blocks of two nets (Kornblith et al. 2019)."""
    layers = (blocks(subject.net), blocks(other.net))
    compared = len(subject.images) - len(subject.images) % BATCH
    if not compared:
        raise UserError(f"Similarity takes batches of {BATCH} images; there are fewer.")
    values = cka(
        subject.net,
        other.net,
        layers,
        (images for numbers, images in subject.batches() if numbers.min() >= 0),
        lambda done: subject.progress("compare", done, compared),
    )
    title = f"Similarity of layers, {compared:,} images"
    drawing.matrix_sheet(title, values, layers, (subject.title, other.title), out)


def probes(subjects: Sequence[Subject], examples: int, out: Path) -> dict[str, dict[str, float]]:
    """Draw how well a linear classifier does on each layer, by depth.

    Alain and Bengio 2016 (arXiv:1610.01644): logistic regression on the means of a layer's maps,
    trained on images that the net was trained on, tested on others.

    Args:
        subjects: nets, each a line.
        examples: at most, of either kind.
        out: the PNG.

    Returns:
        Net -> layer -> error in per cent.
    """
    errors: dict[str, dict[str, float]] = {}
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for subject in subjects:
        assert subject.training is not None
        layers = [layer for layer in subject.net.trunk if layer != LOGITS]
        splits = (subject.training, (subject.images, subject.labels))
        (train, train_labels), (test, test_labels) = (
            (_means(subject, images[:examples], layers), np.asarray(labels[:examples]))
            for images, labels in splits
        )
        by_layer = errors[subject.title] = {}
        for done, layer in enumerate(layers, 1):
            error = logistic((train[layer], train_labels), (test[layer], test_labels))
            by_layer[layer] = round(error, 4)
            subject.progress(f"probes of {subject.title}", done, len(layers))
        depths = [subject.net.depths[layer] for layer in layers]
        lines[subject.title] = (depths, list(by_layer.values()))
    title = "Error of a linear classifier on the means of a layer's maps"
    drawing.depth_sheet(title, "error (%)", lines, out)
    return errors


def _means(subject: Subject, images: Stored, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Return layers' outputs for all images, maps averaged over their places."""
    net = subject.net

    @jax.jit
    def means(pixels: Any) -> Any:
        outputs = net(subject.normalise(pixels), layers)
        return {name: channel_means(values) for name, values in outputs.items()}

    parts: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    for numbers in batches_of(len(images)):
        for layer, values in means(np.asarray(images[numbers % len(images)])).items():
            of_images = np.asarray(values)[numbers < len(images)]
            parts[layer].append(of_images.reshape(len(of_images), -1))
        done = min(int(numbers[-1]) + 1, len(images))
        subject.progress(f"features of {subject.title}", done, len(images))
    return {layer: np.concatenate(batches) for layer, batches in parts.items()}


def dynamics(subjects: Sequence[Subject], examples: int, out: Path) -> dict[str, dict[int, Any]]:
    """Draw how large each layer's values and gradients are, by the step of training.

    Args:
        subjects: nets, each with its states, each a column.
        examples: of those that the nets were trained on, one batch.
        out: the PNG.

    Returns:
        Net -> step -> `Scales` as lists, to four digits.
    """
    scales: dict[str, dict[int, Scales]] = {}
    for subject in subjects:
        assert subject.training is not None
        images, labels = (np.asarray(part[:examples]) for part in subject.training)
        batch = (subject.normalise(images), jnp.asarray(labels))
        measure = Measure(subject.net.model, subject.variables, *batch)
        by_step = scales[subject.title] = {}
        for done, (step, read) in enumerate(sorted(subject.states.items()), 1):
            by_step[step] = measure(read())
            subject.progress(f"states of {subject.title}", done, len(subject.states))
    drawing.dynamics_sheet("Size of values and gradients, by layer and step", scales, out)
    return {
        net: {step: values.rounded() for step, values in by_step.items()}
        for net, by_step in scales.items()
    }


def blocks(net: TracedNet) -> list[str]:
    """Return the blocks that a net is made of, or, if it has none, its layers with maps."""
    of_blocks = [name for name in net.maps if "block" in name.split("/")[-1]]
    return of_blocks or [name for name in net.maps if not name.endswith("_out")]
