"""A small experiment for tests: patterns of ten classes, and a residual net of eight layers."""

from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from deeper.augment.crops_and_colour import Flip, RandomCrop
from deeper.augment.pipeline import Normalise
from deeper.data.epoch_order import batch_indices, padded_batches
from deeper.models import layers
from deeper.models.initializers import initialise
from deeper.models.resnet import resnet
from deeper.tasks.classification import Classification
from deeper.train import losses
from deeper.train.data_parallel import data_mesh
from deeper.train.device_feed import OWN, Resident, on_device
from deeper.train.evaluate import Split
from deeper.train.loop import Experiment, Settings
from deeper.train.phases import Phase
from deeper.train.state import create

N, EVALUATED = 96, 37


@dataclass
class Rows:
    """A tracker that stores rows in memory."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def log(self, row):
        self.rows.append(row)

    def fsync(self):
        pass


class Dropped(nn.Module):
    """A net without BatchNorm whose outputs depend on the masks of dropout."""

    @nn.compact
    def __call__(self, x, *, train):
        x = layers.Dense(32)(x.reshape(len(x), -1))
        return layers.Dense(10)(layers.Dropout(0.5)(nn.relu(x), train))


def patterns(n):
    rng = np.random.default_rng(0)
    labels = (np.arange(n) % 10).astype(np.int32)
    images = rng.integers(0, 60, (n, 12, 12, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label : label + 2] += 150
    return images, labels


def build(
    devices=1,
    *,
    model=None,
    optimizer=None,
    phases=None,
    rate=0.1,
    seed=0,
    operations=None,
    label_smoothing=0.0,
    **changes,
):
    """Return (experiment, initial state)."""
    values = {
        "batch_size": 16,
        "steps": 8,
        "parallel": "shard_map",
        "steps_per_call": 4,
        "accumulate": 1,
        "ema_decay": None,
        "log_every": 4,
        "evaluate_every": 4,
        "checkpoint_every": 4,
        **changes,
    }
    settings = Settings(**values)
    mesh = data_mesh(jax.devices()[:devices])
    model = model or resnet(8, 10, width=4)
    images, labels = patterns(N + EVALUATED)
    source = on_device({"image": images, "label": labels}, mesh)
    normalise = Normalise((0.3,), (0.3,))
    operations = (RandomCrop(1), Flip()) if operations is None else operations
    loss = losses.loss_of("cross_entropy", label_smoothing, None)

    numbers, mask = padded_batches(EVALUATED, settings.batch_size)
    numbers = np.where(mask, numbers + N, -1).astype(np.int32)

    def split(name):
        return Split(
            name, Resident(source, lambda batch: {OWN: numbers[batch]}), EVALUATED, len(numbers)
        )

    schedule = optax.constant_schedule(rate)
    optimizer = optimizer or optax.sgd(schedule, momentum=0.9, nesterov=True)
    experiment = Experiment(
        model=model,
        phases=phases or (Phase(0, settings.steps, optimizer, schedule),),
        task=Classification(operations, normalise, loss),
        feed=Resident(
            source, lambda step: {OWN: batch_indices(N, settings.batch_size, seed, step)}
        ),
        train_size=N,
        validation=split("validation"),
        final=(split("test"),),
        mesh=mesh,
        settings=settings,
    )
    variables = initialise(model, seed, (12, 12, 1))
    first = experiment.phases[0].optimizer
    state = create(variables, first, seed=seed, keep_ema=settings.ema_decay is not None)
    return experiment, state


def losses_and_state(experiment, state, steps=None):
    """Run only the compiled steps."""
    settings = experiment.settings
    call = experiment.compiled_steps(experiment.phases[0])
    steps = steps or settings.steps
    feed = experiment.feed.steps(0, steps, max(steps, settings.steps_per_call))
    from deeper.train.data_parallel import replicate

    state, metrics = call(
        replicate(state, experiment.mesh), experiment.feed.source, feed, np.int32(steps)
    )
    return np.asarray(metrics["loss"])[:steps], jax.tree.map(np.asarray, state)


@pytest.fixture
def rows():
    return Rows()
