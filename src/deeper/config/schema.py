"""The config of a run: typed, validated and frozen."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, cast

import yaml

from deeper.config.calls import Consistency, Model, Operation, Optimizer, OwnCall, Schedule
from deeper.config.data_sections import Data, ImagesOfOneSize
from deeper.config.moved_targets import present
from deeper.config.settings import OpenSection, ReadBy, plain, read_open, read_section, setting
from deeper.errors import UserError

LARGEST_SEED = 2**32 - 1  # keys of NumPy and JAX have 32 bits


@dataclass(frozen=True)
class Views:
    """Augmentations of the two views of an unlabelled image."""

    weak: tuple[Operation, ...] = setting("operations whose answer is the target")
    strong: tuple[Operation, ...] = setting("operations whose answer has to agree")


@dataclass(frozen=True)
class Train:
    """The ``train`` section."""

    batch_size: int = setting("examples a step, over all devices", least=1)
    epochs: float | None = setting("length of the run in passes over the training split", above=0)
    steps: int | None = setting("length of the run in steps, in place of epochs", least=1)
    accumulate: int = setting("micro-batches a step", least=1)
    loss: Literal["cross_entropy", "binary_cross_entropy"] = setting("what is minimised")
    target_threshold: float | None = setting(
        "of binary_cross_entropy: shares above it count as 1", least=0, below=1
    )
    label_smoothing: float = setting("share spread over all classes", least=0, below=1)
    gradient_clip: float | None = setting("largest global norm of the gradient", above=0)
    ema: float | None = setting("decay a step of the averaged parameters", least=0, below=1)
    dtype: Literal["float32", "bfloat16"] = setting("of the computation")
    devices: int | None = setting("how many", least=1)
    parallel: Literal["shard_map", "pmap"] = setting("how devices share a step")
    cpu_kernels: bool = setting("formulations that XLA:CPU runs well")
    steps_per_call: int = setting("steps under one compiled loop", least=1)
    log_every: int = setting("steps between rows", least=1)
    evaluate_every: float = setting("epochs between evaluations", above=0)
    checkpoint_every: float = setting("epochs between checkpoints", above=0)
    keep_at: tuple[int, ...] = setting("steps whose checkpoints are kept for good", least=1)
    train_error_examples: int = setting("training examples evaluated at the end", least=1)
    consistency: Consistency | None = setting("how unlabelled images enter the loss")
    views: Views | None = setting("of unlabelled images")
    repeats: int = setting("augmented copies of an example in a batch", least=1, default=1)
    profile: tuple[int, ...] | None = setting(
        "first and last step to profile", least=1, length=2, default=None
    )


@dataclass(frozen=True)
class Phase:
    """One entry of ``transfer.phases``."""

    stages: int | Literal["all"] = setting("deepest stages that train with the head", least=0)
    share: float = setting("of the run's steps", above=0)
    rate: float = setting("factor of the optimizer's learning rate", above=0)
    lr_decay: float = setting("factor of the rate a stage towards the image", above=0)


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """The ``transfer`` section."""

    truncate_at: str | None = setting("the stage that the net ends at")
    new_head: bool = setting("the last layer begins anew")
    rate: float | None = setting("of the optimizer's rate, in all phases", above=0, default=None)
    lr_decay: float | None = setting("of the rate, a stage", above=0, default=None)
    phases: tuple[Phase, ...] | None = setting("what trains when")


@dataclass(frozen=True)
class Tracker:
    """The ``tracker`` section."""

    mode: Literal["auto", "online", "offline", "disabled"] = setting("of Weights & Biases")
    project: str = setting("of Weights & Biases")
    entity: str | None = setting("user or team of Weights & Biases")
    alerts: bool = setting("of a run that diverged or failed", default=True)
    checkpoints: bool = setting("the best and the last become an artifact", default=False)
    predictions: int = setting("validation examples shown at each evaluation", least=0, default=0)
    histograms: bool = setting("of weights and gradients at each evaluation", default=False)
    tensorboard: bool = setting("write a TensorBoard event file too", default=False)


@dataclass(frozen=True)
class Mode:
    """The ``mode`` section: how much of a study is run."""

    name: str = setting("of the mode")
    dry: bool = setting("tell the cost and train nothing")
    utilisation: float | None = setting(
        "share of the peak that training reaches", above=0, most=1, default=None
    )
    peaks: OpenSection | None = setting("FLOP/s of one device, by its name", default=None)


@dataclass(frozen=True)
class StudyKeys:
    """Known keys of a study; see `deeper.study.definition`."""

    name: str = setting("of the study and of its directory")
    claim: str = setting("a sentence that the numbers may support or not")
    title: str | None = setting("heading of the page")
    metric: str | None = setting("key of the results that is compared")
    metric_label: str | None = setting("the metric with its unit")
    x: str | None = setting("key of the results on the x axis")
    x_label: str | None = setting("the x axis in words")
    line: str | None = setting("key of the results that makes the lines of a figure")
    line_names: OpenSection | None = setting("value of the line's key -> name")
    arms: OpenSection | None = setting("override -> list of values; their product is the sweep")
    seeds: tuple[int, ...] | None = setting("of every arm", least=0, most=LARGEST_SEED)
    tests: tuple[OpenSection, ...] | None = setting("claims, each with its comparison")


def _read_study(value: Any, key: str) -> tuple[OpenSection, dict[str, Any]]:
    typed, written = read_open(StudyKeys, value, key)
    name = typed.get("name")
    if not isinstance(name, str):
        raise UserError(f"{key}.name is missing: give the study a name.")
    if name.startswith(".") or any(mark in name for mark in "/\\\n\0"):
        raise UserError(
            f"{key}.name={name}: it names a directory, so give one without / that does not begin "
            "with a dot."
        )
    return typed, written


# A study and a recipe may have keys of their own.
Study = Annotated[OpenSection, ReadBy(_read_study, "a study, as study=NAME of conf/study gives it")]


@dataclass(frozen=True)
class RecipeKeys:
    """Known keys of a recipe."""

    name: str = setting("of the recipe")
    protocol: Literal["1crop", "flip", "10crop", "dense", "multiscale"] = setting(
        "how its paper evaluates"
    )


Recipe = Annotated[
    OpenSection,
    ReadBy(partial(read_open, RecipeKeys), "a recipe, as recipe=NAME of conf/recipe gives it"),
]


@dataclass(frozen=True, repr=False)
class RunConfig:
    """A run's config, created by `of`.

    Printable, comparable and frozen; `replace` returns a changed and validated copy. It contains
    nothing of Hydra. `plain` returns the mapping in a run directory's ``config.yaml``.
    """

    label: str = setting("of the run: its net")
    choices: OpenSection = setting("group -> the file that was chosen")
    data: Data = setting("the data set")
    train: Train = setting("length, batch and loss")
    model: Model = setting("the net")
    augment: tuple[Operation, ...] = setting("operations on the training images")
    optimizer: Optimizer = setting("the optimizer")
    schedule: Schedule = setting("the learning rate over the run")
    transfer: Transfer = setting("what trains when, and where the net ends")
    tracker: Tracker = setting("the mirror of the record")
    recipe: Recipe | None = setting("the paper whose recipe this is")
    study: Study | None = setting("the study that the run belongs to")
    mode: Mode = setting("how much of a study is run")
    seed: int = setting("of all that is drawn", least=0, most=LARGEST_SEED)
    init_from: str | None = setting("a run directory or weights to begin from")
    runs: str = setting("where run directories go")
    task: OwnCall | None = setting("what is learned, if not classification", default=None)
    arm: OpenSection | None = setting("what arm=NAME of conf/arm sets; itself empty", default=None)
    _plain: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Return the config of a mapping such as that in ``config.yaml``.

        Raises:
            UserError: a value is not allowed; the message has the dotted key, the value and the
                allowed values.
        """
        config, written = read_section(cls, present(values), "")
        if config.train.steps is None and config.train.epochs is None:
            raise UserError("Give the length of the run: train.epochs or train.steps.")
        if (config.train.consistency is None) != (config.train.views is None):
            raise UserError(
                "train.consistency and train.views belong together: give both, or null for both."
            )
        _check_channels(config.data)
        object.__setattr__(config, "_plain", written)
        return cast(RunConfig, config)

    def __repr__(self) -> str:
        """Return a short form; ``str`` returns the complete YAML."""
        return f"RunConfig({self.label} on {self.data.name}, seed {self.seed})"

    def __str__(self) -> str:
        """Return the YAML of ``config.yaml``."""
        return yaml.safe_dump(self._plain, sort_keys=False).rstrip()

    def plain(self) -> dict[str, Any]:
        """Return the values in the form of ``config.yaml``: dicts, lists and scalars."""
        return copy.deepcopy(self._plain)

    def replace(self, changes: Mapping[str, Any] | None = None, /, **sections: Any) -> "RunConfig":
        """Return a validated copy with other values.

        Args:
            changes: dotted key -> value, as ``{"train.batch_size": 64}``.
            **sections: a top-level value such as ``seed=1``, or the changes in a section such as
                ``train={"batch_size": 64}``. The label is kept unless it is given.

        Raises:
            UserError: there is no such key, or the value is not allowed.
        """
        values = self.plain()
        for key, value in sections.items():
            old = values.get(key)
            if isinstance(old, dict) and isinstance(value, Mapping) and "_target_" not in value:
                value = {**old, **plain(value)}
            values[key] = plain(value)
        for dotted, value in (changes or {}).items():
            _put(values, dotted, plain(value))
        return RunConfig.of(values)


def _put(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a value by its dotted key."""
    *path, last = dotted.split(".")
    node: Any = values
    for part in path:
        node = node[int(part)] if isinstance(node, list) and part.isdecimal() else node.get(part)
        if not isinstance(node, dict | list):
            raise UserError(f"There is no section {'.'.join(path)} to set {dotted} in.")
    if isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value


def _check_channels(data: Any) -> None:
    """Raise a UserError if mean and std do not fit the images' channels."""
    if not isinstance(data, ImagesOfOneSize):
        return
    channels = data.image_shape[-1]
    for name in ("mean", "std"):
        count = len(getattr(data, name))
        if count != channels and not (name == "std" and count == 1):
            raise UserError(
                f"data.{name}={list(getattr(data, name))} has {count} values, but the images have "
                f"{channels} channels: give one a channel."
            )
