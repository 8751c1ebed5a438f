"""Builds the objects of training from a composed config."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from deeper.augment.pipeline import left_out_on_grey
from deeper.config.instantiate import build
from deeper.config.schema import RunConfig
from deeper.errors import UserError
from deeper.models.adapters import adapted
from deeper.models.initializers import shapes_of
from deeper.profile.macs import Summary, summarise
from deeper.profile.stages import Stages, stages_of
from deeper.run import input_pipeline, transfer
from deeper.run.dataset import Splits
from deeper.tasks.classification import Classification, classification, mixes_examples
from deeper.tasks.consistency import consistency_training
from deeper.tasks.task import Task
from deeper.train import data_parallel
from deeper.train.loop import Experiment, Settings
from deeper.train.phases import Phase

Example = Any  # shape and dtype of one example's input, see `models.initializers`


def example_of(config: RunConfig) -> Example:
    """Return the shape of one example's input (float32), or its shape and dtype."""
    shape, dtype = config.data.example
    return shape if dtype == "float32" else jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


def build_model(config: RunConfig) -> nn.Module:
    """Return the net, after checking that its number of classes is that of the data."""
    classes = config.model.get("classes")
    if None not in (classes, config.data.classes) and classes != config.data.classes:
        raise UserError(
            f"model.classes={classes} but the data set {config.data.name} has "
            f"{config.data.classes} classes: leave model.classes out, or set it to "
            f"{config.data.classes}."
        )
    return transfer.cut(adapted(build(config.model)), config)


@dataclass(frozen=True)
class Plan:
    """A run before compilation, as the banner shows it and training needs it.

    Attributes:
        model: the net.
        summary: parameters, operations and memory of the net.
        settings: settings of the training loop.
        peak_rate: highest learning rate, for this batch size.
        phases: phases of training, see `train.phases`.
        stages: stages of the net, if the run starts from other weights, has phases or truncates the
            net.
        last_layer: the last layer as a net, if only it trains and its input never changes.
        train_size: number of training examples.
    """

    model: nn.Module
    summary: Summary
    settings: Settings
    peak_rate: float
    phases: tuple[Phase, ...]
    stages: Stages | None
    last_layer: nn.Module | None
    train_size: int


def make_plan(config: RunConfig, train_size: int, summary: Summary | None = None) -> Plan:
    """Determine a run's net, length and learning rate, without reading data.

    Args:
        config: the composed config.
        train_size: number of training examples.
        summary: summary of the net, if it is already known.
    """
    train = config.train
    model = build_model(config)
    shape = example_of(config)
    summary = summary or summarise(model, shape)
    steps_per_epoch = train_size / train.batch_size
    steps = train.steps or max(1, math.ceil((train.epochs or 0) * steps_per_epoch - 1e-9))

    def period(epochs: float) -> int:
        return max(1, round(epochs * steps_per_epoch))

    settings = Settings(
        batch_size=train.batch_size,
        steps=steps,
        parallel=train.parallel,
        steps_per_call=min(train.steps_per_call, train.log_every, steps),
        accumulate=train.accumulate,
        ema_decay=train.ema,
        log_every=train.log_every,
        evaluate_every=period(train.evaluate_every),
        checkpoint_every=period(train.checkpoint_every),
        keep_at=tuple(train.keep_at),
        profile=_profiled(train.profile, steps),
    )
    recipe = build(config.optimizer)
    peak = recipe.learning_rate * train.batch_size / 256
    schedule = build(config.schedule)

    def make(factor: float, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
        rate = schedule.over(factor * peak, steps)
        optimizer = recipe.transformation(rate)
        if train.gradient_clip is not None:
            optimizer = optax.chain(optax.clip_by_global_norm(train.gradient_clip), optimizer)
        return optimizer, rate

    stages, last = None, None
    phases: tuple[Phase, ...] = (Phase(0, steps, *make(1.0, steps)),)
    transfers = (config.transfer.phases, config.init_from, config.transfer.truncate_at)
    if any(transfers):
        stages = stages_of(model, shape)
        configs = transfer.phase_configs(config, stages)
        phases = transfer.phases_of(configs, stages, steps, make)
        last = transfer.last_layer(configs, config, stages, shapes_of(model, shape))
    fixed = getattr(model, "fixed", None)
    if fixed is not None:
        phases = tuple(replace(phase, fixed=fixed) for phase in phases)
    return Plan(model, summary, settings, peak, phases, stages, last, train_size)


def _profiled(wish: tuple[int, ...] | None, steps: int) -> tuple[int, int] | None:
    """Return the first and last step to profile.

    Raises:
        UserError: the run has no such steps.
    """
    if wish is None:
        return None
    first, last = wish
    if not 1 <= first <= last <= steps:
        raise UserError(
            f"train.profile={list(wish)}: the run has the steps 1 to {steps:,}; give the first and "
            "the last step to profile."
        )
    return first, last


def facts(config: RunConfig, plan: Plan) -> dict[str, Any]:
    """Return the entries of a run's result that are known before it starts; studies select runs by
    them.

    Args:
        config: config of the run.
        plan: plan of the run.
    """
    return {
        **stated_facts(config),
        "stages": None if plan.stages is None else len(plan.stages.names),
        "parameters": plan.summary.parameters,
        "macs": plan.summary.macs,
        "train_images": plan.train_size,
    }


def stated_facts(config: Any) -> dict[str, Any]:
    """Return the entries of `facts` that follow from the config alone.

    Depth and shortcuts of a net that is built on another are those of that backbone.
    """
    net = config.model.get("backbone") or config.model
    return {
        "label": config.label,
        "augment": config.choices.get("augment"),
        "arm": config.choices.get("arm"),
        "seed": config.seed,
        "study": config.study.name if config.study else None,
        "depth": net.get("depth"),
        "residual": net.get("residual"),
    }


def assemble(
    config: RunConfig, plan: Plan, splits: Splits, mesh: Mesh, *, features: bool = False
) -> Experiment:
    """Put the data on the devices, or open them on the host, and assemble the experiment.

    Args:
        config: the composed config.
        plan: from `make_plan`.
        splits: from `open_splits`.
        mesh: the devices.
        features: whether the splits hold features for the net's last layer instead of images.
    """
    settings, seed = plan.settings, int(config.seed)
    data_parallel.check_divisible(settings.batch_size, mesh.devices.size, settings.accumulate)
    task = task_of(config)
    if features:
        assert isinstance(task, Classification)
        task = replace(task, normalise=_as_they_are)
    micro_batch = settings.batch_size // mesh.devices.size // settings.accumulate
    if mixes_examples(task) and micro_batch % 2:
        raise UserError(
            f"train.batch_size={settings.batch_size} over {mesh.devices.size} devices"
            + (f" x accumulate={settings.accumulate}" if settings.accumulate > 1 else "")
            + " is odd a device, but Mixup and CutMix mix neighbours: take an even number a device."
        )

    shown = min(config.train.train_error_examples, len(splits.train))
    parts = {"train": splits.train, "test": splits.test}
    if splits.validation is not None:
        parts["validation"] = splits.validation
    parts["shown"] = splits.train.select(slice(shown))
    if splits.unlabelled is not None:
        parts["unlabelled"] = splits.unlabelled
    what = parts, settings.batch_size, config.train.repeats, task.streams, seed, mesh
    if input_pipeline.fits(config, splits):
        feed, evaluated = input_pipeline.resident(*what)
    else:
        workers = input_pipeline.workers_of(config.data)
        feed, evaluated = input_pipeline.streamed(*what, settings.parallel, workers)
    return Experiment(
        model=plan.last_layer if features and plan.last_layer else plan.model,
        phases=plan.phases,
        task=task,
        feed=feed,
        train_size=plan.train_size,
        validation=evaluated.get("validation"),
        final=(evaluated["test"], replace(evaluated["shown"], name="train")),
        mesh=mesh,
        settings=settings,
    )


def task_of(config: RunConfig) -> Task:
    """Return the task of the config, or classification of images by default.

    A task with ``_partial_: true`` is a function that is called with the config.
    """
    if config.task is not None:
        task = build(config.task)
        return task(config) if isinstance(task, partial) else task
    supervised = config.train.consistency is None
    return classification(config) if supervised else consistency_training(config)


def _as_they_are(features: Any) -> Any:
    return features


def operations_of(config: RunConfig) -> tuple[Any, ...]:
    """Return the operations of the augmentation."""
    return tuple(build(operation) for operation in config.augment)


def notices(config: RunConfig) -> list[str]:
    """Return a notice about operations that the augmentation skips on these images."""
    if config.task is not None or config.data.image_shape[-1] >= 3:
        return []
    views = config.train.views
    lists = [operations_of(config)]
    if views is not None:
        lists += [
            tuple(build(operation) for operation in view) for view in (views.weak, views.strong)
        ]
    left_out = dict.fromkeys(
        words for operations in lists for words in left_out_on_grey(operations)
    )
    return [f"The images are grey: {words}." for words in left_out]
